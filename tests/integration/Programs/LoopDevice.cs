using Tmds.Linux;

namespace IntegrationTests.Programs;

/// <summary>A loop device over the disk, and what is mounted from it.</summary>
internal sealed class LoopDevice : IDisposable
{
    private readonly string _folder;
    private bool _isMounted;

    public LoopDevice(string disk, string folder, bool direct)
    {
        // A kernel without loop devices cannot do it; one that has them and refuses is a failure.
        Assert.SkipUnless(File.Exists("/dev/loop-control"), "this kernel has no loop devices");
        Assert.True(LibC.geteuid() == 0, "loop devices need root: run the tests as root");
        _folder = folder;
        Device = Tool.Run("losetup", "--find", "--show", $"--direct-io={(direct ? "on" : "off")}", disk).Trim();
    }

    public string Device { get; }

    public void Mount(string options = "defaults")
    {
        Tool.Run("mount", "-o", options, Device, _folder);
        _isMounted = true;
    }

    public void Unmount()
    {
        // A child that another test starts may hold our files open between its fork and its exec.
        Wait.Until(() => Tool.Try("umount", _folder).ExitCode == 0, $"umount {_folder}");
        _isMounted = false;
    }

    public void Dispose()
    {
        if (_isMounted)
        {
            Tool.Try("umount", "-l", _folder);
        }

        Tool.Try("losetup", "-d", Device);
    }
}
