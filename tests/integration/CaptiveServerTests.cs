using Tmds.Linux;

namespace IntegrationTests;

/// <summary>Servers that nbdfuse starts itself.</summary>
public sealed class CaptiveServerTests : IntegrationTest
{
    public static TheoryData<string> Modes() => new("--socket-activation", "--command", "[");

    [Theory]
    [InlineData("--command")]
    [InlineData("--cmd")]
    public void A_server_on_standard_input_and_output_is_used(string mode)
    {
        NbdFuseMount mount = Mount(mode, "nbdkit", "-s", "-P", Folder.FileAt("nbdkit.pid"), "memory", "1M");
        byte[] data = Data.Random(1 << 20);

        File.WriteAllBytes(Folder.FileAt("source"), data);
        Tool.Run("cp", Folder.FileAt("source"), mount.File);

        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY | LibC.O_DIRECT);
        Assert.Equal(data, file.Read(0, data.Length));
    }

    [Theory]
    [InlineData("--command")]
    [InlineData("--socket-activation")]
    public void Arguments_arrive_as_they_are(string mode)
    {
        string[] arguments = ["a b", "it's", "\"", "$HOME", "`id`", "", "*", "\\", "--help", "-C", "two\nlines", "ü"];
        string seen = Folder.FileAt("seen");
        string stdio = mode == "--command" ? "-s" : "-f";

        NbdFuseMount mount = Mount(
            [mode, "bash", "-c", $"printf '%s\\0' \"$@\" > '{seen}'; exec nbdkit {stdio} pattern 64K", "bash", .. arguments]);

        Assert.Equal(arguments, File.ReadAllText(seen).Split('\0')[..^1]);
        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void One_that_exits_at_once_is_one_line_with_its_name_and_exit_status(string mode)
    {
        string line = CheckStartFails([mode, "sh", "-c", "exit 7", .. End(mode)]);

        Assert.Contains("sh", line);
        Assert.Contains("7", line);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void One_that_is_killed_by_a_signal_is_one_line_that_says_so(string mode)
    {
        string line = CheckStartFails([mode, "sh", "-c", "kill -9 $$", .. End(mode)]);

        Assert.Contains("sh", line);
        Assert.Contains("9", line);
    }

    /// <summary>nbdkit ends with us when it serves its standard input: not because something went wrong with it.</summary>
    [Fact]
    public void One_that_refuses_and_ends_in_peace_is_quoted()
    {
        (int exitCode, string output) = RunNbdFuse(
        [
            "--export", "b", Folder.Folder("mnt"),
            "--command", "nbdkit", "-s", "--filter=exportname", "memory", "1M", "exportname-strict=true", "exportname=a",
        ]);

        Assert.Equal(1, exitCode);
        Assert.Contains("no export named 'b'", output);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void One_that_does_not_exist_is_one_line_with_its_name(string mode)
    {
        string line = CheckStartFails([mode, "/nonexistent/server", "argument", .. End(mode)]);

        Assert.Contains("/nonexistent/server", line);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void One_that_never_says_a_byte_is_given_up_after_the_connect_timeout(string mode)
    {
        string empty = Folder.FileAt("empty");
        File.WriteAllText(empty, "");

        string line = CheckStartFails([mode, "tail", "-f", empty, .. End(mode)], "--connect-timeout", "1");

        Assert.Contains("tail", line);
        Assert.Empty(ProcessTable.Mentioning(empty));
    }

    [Fact]
    public void Its_messages_are_not_swallowed()
    {
        (int exitCode, string output) = RunNbdFuse(
            Folder.Folder("mnt"), "--socket-activation", "qemu-nbd", "-f", "qcow2", Folder.FileAt("no-such-image"));

        Assert.Equal(1, exitCode);
        Assert.Contains("no-such-image", output);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void It_is_killed_when_nbdfuse_is_killed(string mode)
    {
        string pidFile = Folder.FileAt("nbdkit.pid");
        string stdio = mode == "--command" ? "-s" : "-f";
        NbdFuseMount mount = Mount([mode, "nbdkit", stdio, "-P", pidFile, "memory", "1M", .. End(mode)]);
        int id = int.Parse(File.ReadAllText(pidFile));
        Assert.True(ProcessTable.IsAlive(id), "the server is not there");

        mount.Process.Signal(LibC.SIGKILL);
        mount.Process.WaitForExit();

        Wait.Until(() => !ProcessTable.IsAlive(id), "the captive server is gone");
        MountTable.Unmount(mount.MountPath);
        // Killed by force, nbdfuse cannot remove its socket.
        foreach (string entry in Directory.GetFileSystemEntries(Folder.Temporary))
        {
            Tool.Run("rm", "-r", entry);
        }
    }

    [Fact]
    public void It_inherits_nothing_of_nbdfuse()
    {
        string image = Folder.FileAt("image");
        File.WriteAllBytes(image, new byte[1 << 20]);
        Mount("--socket-activation", "qemu-nbd", "-f", "raw", image);
        int id = ProcessTable.Mentioning(image).First(process => process.Value.StartsWith("qemu-nbd", StringComparison.Ordinal)).Key;

        Assert.DoesNotContain(ProcessTable.OpenFiles(id), path => path.Contains("/dev/fuse", StringComparison.Ordinal));
    }

    private static string[] End(string mode) => mode == "[" ? ["]"] : [];

    // What it printed, which must be one line of ours.
    private string CheckStartFails(string[] source, params string[] options)
    {
        string mountPoint = Folder.Folder("mnt");
        string pidFile = Folder.FileAt("nbdfuse.pid");

        (int exitCode, string output) = RunNbdFuse(["-P", pidFile, .. options, mountPoint, .. source]);

        Assert.Equal(1, exitCode);
        Assert.False(MountTable.IsMounted(mountPoint), "it stayed mounted");
        Assert.False(File.Exists(pidFile), "a pidfile was written");
        string line = Assert.Single(output.TrimEnd().Split('\n'));
        Assert.StartsWith("nbdfuse: ", line);
        return line;
    }
}
