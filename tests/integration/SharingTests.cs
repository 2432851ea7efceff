using Tmds.Linux;

namespace IntegrationTests;

/// <summary>What others see of the mount: its name, its owner, its permissions.</summary>
public abstract class SharingTests : IntegrationTest
{
    private const UnixFileMode Everyone =
        UnixFileMode.UserRead | UnixFileMode.GroupRead | UnixFileMode.OtherRead
        | UnixFileMode.UserWrite | UnixFileMode.GroupWrite | UnixFileMode.OtherWrite;

    [Fact]
    public void The_mount_table_says_what_it_is()
    {
        NbdServer server = NbdkitTcp("memory", "1M");
        NbdFuseMount mount = Mount($"nbd://localhost:{server.Port}/name");

        string found = Tool.Run("findmnt", "-n", "-o", "SOURCE,FSTYPE", mount.MountPath).Trim();

        Assert.Matches($@"^nbd://localhost:{server.Port}/name\s+fuse\.nbdfuse$", found);
        Assert.Contains("nbd://localhost", Tool.Run("df", mount.MountPath));
    }

    [Theory]
    [InlineData("--unix")]
    [InlineData("--tcp")]
    [InlineData("--command")]
    [InlineData("--socket-activation")]
    public void A_source_that_is_no_uri_has_a_name_too(string mode)
    {
        NbdFuseMount mount = mode switch
        {
            "--unix" => Mount(mode, Nbdkit("memory", "1M").Socket),
            "--tcp" => Mount(mode, "localhost", $"{NbdkitTcp("memory", "1M").Port}"),
            "--command" => Mount(mode, "nbdkit", "-s", "memory", "1M"),
            _ => Mount(mode, "nbdkit", "-f", "memory", "1M"),
        };

        MountEntry entry = MountTable.Read().Last(entry => entry.Path == mount.MountPath);

        Assert.Equal("fuse.nbdfuse", entry.Type);
        Assert.False(entry.Source is "" or "none" or "/dev/fuse" or "nbdfuse", entry.Source);
    }

    [Fact]
    public void The_mount_allows_neither_set_user_id_nor_devices()
    {
        NbdFuseMount mount = Mount(Nbdkit("memory", "1M").Uri);

        string[] options = MountTable.Read().Last(entry => entry.Path == mount.MountPath).Options.Split(',');

        Assert.Contains("nosuid", options);
        Assert.Contains("nodev", options);
    }

    [Fact]
    public void Only_the_owner_gets_in_by_default()
    {
        Assert.SkipUnless(LibC.geteuid() == 0, "only root can be another user");
        NbdFuseMount mount = Mount(Nbdkit("memory", "1M").Uri);

        Assert.NotEqual(0, TryAsOrdinaryUser("cat", mount.File));
        Assert.NotEqual(0, TryAsOrdinaryUser("ls", mount.MountPath));
    }

    [Fact]
    public void Even_root_does_not_get_into_the_mount_of_an_ordinary_user()
    {
        Assert.SkipUnless(LibC.geteuid() == 0, "only root can be another user");
        NbdFuseMount mount = Mount(new MountRequest { AsOrdinaryUser = true, Source = [NbdkitTcp("pattern", "64K").Uri] });

        Assert.Equal(0, TryAsOrdinaryUser("cat", mount.File));
        Assert.NotEqual(0, Tool.Try("cat", mount.File).ExitCode);
    }

    [Theory]
    [InlineData("allow_other")]
    [InlineData("allow_other,default_permissions")]
    public void With_allow_other_the_permissions_are_those_of_the_umask(string option)
    {
        Assert.SkipUnless(LibC.geteuid() == 0, "needs user_allow_other in /etc/fuse.conf otherwise");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["-o", option], Source = [Nbdkit("memory", "64K").Uri] });

        Assert.Equal(Everyone & ~Umask(), File.GetUnixFileMode(mount.File));
        Assert.Equal((UnixFileMode)0x1ed, File.GetUnixFileMode(mount.MountPath));
        Assert.Equal(0, TryAsOrdinaryUser("cat", mount.File));
        Assert.NotEqual(0, TryAsOrdinaryUser("dd", "if=/dev/zero", $"of={mount.File}", "count=1", "conv=notrunc"));
        Assert.Contains("default_permissions", MountTable.Read().Last(entry => entry.Path == mount.MountPath).SuperOptions);
    }

    [Fact]
    public void A_read_only_file_and_its_folder_have_no_write_permission()
    {
        Assert.SkipUnless(LibC.geteuid() == 0, "needs user_allow_other in /etc/fuse.conf otherwise");
        NbdFuseMount mount = Mount(
            new MountRequest { Options = ["-r", "-o", "allow_other"], Source = [Nbdkit("memory", "1M").Uri] });

        Assert.Equal((UnixFileMode)0x124, File.GetUnixFileMode(mount.File));
        Assert.Equal((UnixFileMode)0x16d, File.GetUnixFileMode(mount.MountPath));
    }

    [Fact]
    public void The_option_may_be_repeated()
    {
        Assert.SkipUnless(LibC.geteuid() == 0, "needs user_allow_other in /etc/fuse.conf otherwise");
        NbdFuseMount mount = Mount(
            new MountRequest { Options = ["-o", "allow_other", "-o", "default_permissions"], Source = [Nbdkit("memory", "1M").Uri] });

        Assert.Contains("allow_other", MountTable.Read().Last(entry => entry.Path == mount.MountPath).SuperOptions);
    }

    [Fact]
    public void The_owner_is_who_started_it()
    {
        NbdFuseMount mount = Mount(new MountRequest { AsOrdinaryUser = true, Source = [NbdkitTcp("memory", "1M").Uri] });
        string[] stat = Tool.AsOrdinaryUser("stat", "-c", "%u %h %s", mount.File);
        string[] id = Tool.AsOrdinaryUser("id", "-u");

        Assert.Equal($"{Tool.Run(id[0], id[1..]).Trim()} 1 {1 << 20}", Tool.Run(stat[0], stat[1..]).Trim());
    }

    private static int TryAsOrdinaryUser(params string[] commandLine)
    {
        string[] all = Tool.AsOrdinaryUser(commandLine);
        return Tool.Try(all[0], all[1..]).ExitCode;
    }

    private static UnixFileMode Umask() =>
        (UnixFileMode)Convert.ToInt32(
            File.ReadLines("/proc/self/status").First(line => line.StartsWith("Umask:", StringComparison.Ordinal))[6..].Trim(), 8);
}

public sealed class SharingOverDeviceTests : SharingTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class SharingOverUringTests : SharingTests
{
    private protected override string Transport => Transports.Uring;
}
