using System.Globalization;

namespace IntegrationTests;

/// <summary>What df(1) shows: the size, and as available what can be written to it.</summary>
public sealed class StatfsTests : IntegrationTest
{
    [Theory]
    [InlineData("mnt/disk")]
    [InlineData("file")]
    public void All_of_a_disk_is_there_to_be_written(string mountPoint)
    {
        File.WriteAllText(Folder.FileAt("file"), "");
        NbdFuseMount mount = Mount(new MountRequest { MountPoint = mountPoint, Source = [Nbdkit("memory", "64M").Uri] });

        Assert.Equal((64 << 20, 0, 64 << 20), Df(mount.File));
    }

    [Fact]
    public void Nothing_is_available_where_nothing_can_be_written()
    {
        NbdFuseMount mount = Mount(new MountRequest { Options = ["-r"], Source = [Nbdkit("memory", "64M").Uri] });

        Assert.Equal((64 << 20, 64 << 20, 0), Df(mount.File));
    }

    [Fact]
    public void Of_all_exports_those_that_can_be_written_are_available()
    {
        string list = Folder.FileAt("list");
        File.WriteAllText(list, "disk\nread-only\n");
        NbdServer server = Nbdkit(
            "eval", $"list_exports=echo NAMES; cat {list}", "open=echo \"$3\"", "get_size=echo 1048576",
            "pread=head -c $3 /dev/zero", "pwrite=cat >/dev/null", "can_write=[ \"$2\" = disk ] || exit 3");
        Folder.Folder("exports");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["--all"], MountPoint = "exports", Source = [server.Uri] });

        Assert.Equal((2 << 20, 1 << 20, 1 << 20), Df(mount.MountPath));
    }

    [Fact]
    public void The_unit_is_the_servers_minimum_block()
    {
        NbdServer server = Nbdkit(
            "--filter=blocksize-policy", "memory", "64M", "blocksize-minimum=64K", "blocksize-preferred=64K",
            "blocksize-maximum=32M", "blocksize-error-policy=error");
        NbdFuseMount mount = Mount(server.Uri);

        Assert.Equal("65536 1024 1024 255", Tool.Run("stat", "-f", "-c", "%S %b %a %l", mount.File).Trim());
    }

    private static (long Size, long Used, long Available) Df(string path)
    {
        string[] fields = Tool.Run("df", "-B1", "--output=size,used,avail", path)
            .Split('\n', StringSplitOptions.RemoveEmptyEntries)[1].Split(' ', StringSplitOptions.RemoveEmptyEntries);
        long[] numbers = [.. fields.Select(field => long.Parse(field, CultureInfo.InvariantCulture))];
        return (numbers[0], numbers[1], numbers[2]);
    }
}
