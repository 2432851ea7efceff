using Fuse;
using Linux;

namespace UnitTests.FuseTests;

public sealed class MountTests
{
    [Fact]
    public void A_line_of_mountinfo_is_read_with_its_escapes()
    {
        const string Line = "36 35 0:52 / /mnt/with\\040blank\\134 rw,nosuid shared:7 master:1 - fuse.nbdfuse nbd rw";

        Assert.Equal(new MountTableEntry("0:52", "/mnt/with blank\\", "fuse.nbdfuse"), MountTableEntry.Parse(Line));
        Assert.Equal("ext4", MountTableEntry.Parse("36 35 98:0 / / rw - ext4 /dev/root rw")!.Value.Type);
        Assert.Null(MountTableEntry.Parse("36 35 98:0"));
        Assert.Null(MountTableEntry.Parse(""));
    }

    [Fact]
    public void The_root_is_mounted() => Assert.NotEmpty(MountTable.At("/"));

    [Fact]
    public void Values_for_fusermount_cannot_smuggle_in_options()
    {
        FuseMountOptions options = new()
        {
            Source = "a,allow_other\\,b",
            Subtype = "nbdfuse",
            ReadOnly = true,
            AutoUnmount = true,
            MaxReadBytes = 65536,
            Flags = FuseMountFlags.NoSuid | FuseMountFlags.NoAtime,
        };

        Assert.Equal(
            "fsname=a\\,allow_other\\\\\\,b,subtype=nbdfuse,nosuid,noatime,ro,auto_unmount,max_read=65536,"
            + "default_permissions",
            Fusermount.MountOptions(options));
    }

    [Theory]
    [InlineData(Errno.ENOENT, "modprobe fuse")]
    [InlineData(Errno.EACCES, "chmod 666 /dev/fuse")]
    public void Trouble_with_the_device_comes_with_advice(Errno error, string advice) =>
        Assert.Contains(advice, FuseDevice.Describe(error).Message);

    [Fact]
    public void A_mountpoint_must_exist_and_be_a_directory_or_a_file()
    {
        FuseMountOptions options = new() { Source = "x", Subtype = "test" };

        LinuxException missing = Assert.Throws<LinuxException>(() => FuseMount.Create("/no/such/place", options));
        Assert.Equal(Errno.ENOENT, missing.Errno);
        Assert.Contains("/no/such/place", missing.Message);
        Assert.Contains(
            "neither", Assert.Throws<FuseException>(() => FuseMount.Create("/dev/null", options)).Message);
        Assert.False(FuseMount.IsDeadMount("/no/such/place"));
    }
}
