using Fuse;
using Linux;

namespace UnitTests.FuseTests;

public sealed unsafe class DispatcherTests
{
    // GETATTR of the root, LOOKUP of "disk" and READ of 64 KiB at 0, as a Linux 6.18 sends them.
    private const string GetAttrOfRoot =
        "3800000003000000040000000000000001000000000000000000000000000000786c000000000000"
        + "00000000000000000000000000000000";

    private const string LookupDisk =
        "2d00000001000000060000000000000001000000000000000000000000000000786c0000000000006469736b00";

    private const string Read64KiB =
        "500000000f0000000a00000000000000020000000000000000000000000000007e6c000000000000"
        + "00000000000000000000000000000000000001000000000000000000000000000080000000000000";

    [Fact]
    public void Requests_of_a_real_kernel_are_answered_byte_for_byte()
    {
        using MemoryFileSystem files = new(5, isFile: false);
        using FakeKernel kernel = new(files);
        "hello"u8.CopyTo(files.Data);

        Assert.Equal(
            ["7800000000000000" + "0400000000000000" + "3c00000000000000" + "0000000000000000" + "0100000000000000"
                + new string('0', 5 * 16) + "0000000000000000" + "00000000" + "ed410000" + "02000000" + "00000000"
                + "00000000" + "00000000" + "00100000" + "00000000"],
            kernel.Ask(Convert.FromHexString(GetAttrOfRoot)));
        Assert.Equal(
            ["9000000000000000" + "0600000000000000" + "0200000000000000" + "0000000000000000" + "3c00000000000000"
                + "3c00000000000000" + "0000000000000000" + "0200000000000000" + "0500000000000000"
                + "0100000000000000" + new string('0', 3 * 16) + "0000000000000000" + "00000000" + "b6810000"
                + "01000000" + "00000000" + "00000000" + "00000000" + "00100000" + "00000000"],
            kernel.Ask(Convert.FromHexString(LookupDisk)));
        Assert.Equal(
            ["1500000000000000" + "0a00000000000000" + "68656c6c6f"], kernel.Ask(Convert.FromHexString(Read64KiB)));
        Assert.Empty(kernel.Warnings);
        Assert.Equal(1, kernel.Pool.Allocated);
    }

    [Fact]
    public void A_request_knows_who_asks()
    {
        HoldingFileSystem files = new();
        using FakeKernel kernel = new(files);
        kernel.Send(Read(unique: 10));
        FuseRequest request = files.TakeHeld();

        Assert.Equal(
            (10ul, 2ul, FuseOpcode.Read, 1000u, 100u, FakeKernel.NoProcess),
            (request.Unique, request.NodeId, request.Opcode, request.UserId, request.GroupId, request.ProcessId));
        request.ReplyError(Errno.EIO);
    }

    [Theory]
    [InlineData(FuseOpcode.StatX)]
    [InlineData(FuseOpcode.BMap)]
    [InlineData(FuseOpcode.SyncFs)]
    [InlineData(FuseOpcode.Poll)]
    [InlineData((FuseOpcode)60)]
    [InlineData((FuseOpcode)4096)]
    public void Opcodes_that_we_do_not_have_are_answered_ENOSYS(FuseOpcode opcode)
    {
        using FakeKernel kernel = new(new HoldingFileSystem());

        Assert.Equal([FakeKernel.Error(Errno.ENOSYS, 8)], kernel.Ask(FakeKernel.Request(opcode, 8)));
    }

    [Theory]
    [InlineData(FuseOpcode.Create, Errno.EPERM)]
    [InlineData(FuseOpcode.MkDir, Errno.EPERM)]
    [InlineData(FuseOpcode.Unlink, Errno.EPERM)]
    [InlineData(FuseOpcode.Rename2, Errno.EPERM)]
    [InlineData(FuseOpcode.Fallocate, Errno.EOPNOTSUPP)]
    [InlineData(FuseOpcode.Fsync, Errno.EINVAL)]
    [InlineData(FuseOpcode.Ioctl, Errno.ENOTTY)]
    [InlineData(FuseOpcode.Write, Errno.EROFS)]
    [InlineData(FuseOpcode.ReadDir, Errno.ENOTDIR)]
    [InlineData(FuseOpcode.Lseek, Errno.ENOSYS)]
    public void The_defaults_are_errors_that_a_program_understands(FuseOpcode opcode, Errno expected)
    {
        using FakeKernel kernel = new(new HoldingFileSystem());
        string body = new('0', 2 * FuseBody.MinimumBytes(opcode));

        Assert.Equal([FakeKernel.Error(expected, 8)], kernel.Ask(FakeKernel.Request(opcode, 8, body)));
    }

    [Theory]
    [InlineData(FuseOpcode.Forget, "0100000000000000")]
    [InlineData(FuseOpcode.BatchForget, "0100000000000000 0200000000000000 0100000000000000")]
    [InlineData(FuseOpcode.Forget, "")]
    [InlineData(FuseOpcode.NotifyReply, "")]
    public void Forgetting_gets_no_reply(FuseOpcode opcode, string body)
    {
        using FakeKernel kernel = new(new HoldingFileSystem());

        Assert.Empty(kernel.Ask(FakeKernel.Request(opcode, 8, body)));
        Assert.Equal(0, kernel.Pool.Taken);
    }

    [Theory]
    [InlineData(FuseOpcode.Read, "00")]
    [InlineData(FuseOpcode.Read, "")]
    [InlineData(FuseOpcode.GetAttr, "00000000")]
    [InlineData(FuseOpcode.SetAttr, "0000000000000000")]
    [InlineData(FuseOpcode.Lookup, "")]
    [InlineData(FuseOpcode.Lookup, "00")]
    [InlineData(FuseOpcode.Lookup, "6469736b")]
    [InlineData(FuseOpcode.GetXattr, "0000000000000000 757365722e61")]
    [InlineData(FuseOpcode.SetXattr, "0500000000000000 6100 6161")]
    [InlineData(FuseOpcode.Fallocate, "0000000000000000 0000000000000080 0100000000000000 0000000000000000")]
    [InlineData(FuseOpcode.Lseek, "0000000000000000 ffffffffffffffff 0300000000000000")]
    [InlineData(FuseOpcode.Init, "07000000 2d000000 00000000 00000000")]
    public void A_malformed_body_is_answered_EIO(FuseOpcode opcode, string body)
    {
        using FakeKernel kernel = new(new HoldingFileSystem());

        Assert.Equal([FakeKernel.Error(Errno.EIO, 8)], kernel.Ask(FakeKernel.Request(opcode, 8, body)));
        Assert.Single(kernel.Warnings);
        Assert.Equal(0, kernel.Pool.Taken);
    }

    [Fact]
    public void A_write_whose_size_is_not_that_of_its_data_is_answered_EIO()
    {
        using MemoryFileSystem files = new(4096, isFile: true);
        using FakeKernel kernel = new(files);
        string body = "0000000000000000 0000000000000000 05000000 00000000 0000000000000000 00000000 00000000 61616161";

        Assert.Equal(
            [FakeKernel.Error(Errno.EIO, 8)], kernel.Ask(FakeKernel.Request(FuseOpcode.Write, 8, body)));
        Assert.Equal(0, files.Data[0]);
        Assert.Equal(
            ["1800000000000000" + "0a00000000000000" + "04000000" + "00000000"],
            kernel.Ask(FakeKernel.Request(
                FuseOpcode.Write, 10, body.Replace("05000000", "04000000", StringComparison.Ordinal))));
        Assert.Equal((byte)'a', files.Data[3]);
    }

    [Fact]
    public void A_read_larger_than_was_agreed_is_answered_EIO()
    {
        using FakeKernel kernel = new(new HoldingFileSystem());

        Assert.Equal([FakeKernel.Error(Errno.EIO, 8)], kernel.Ask(Read(8, size: 1 << 24)));
    }

    [Fact]
    public void A_length_that_is_not_what_was_read_is_answered_EIO()
    {
        using FakeKernel kernel = new(new HoldingFileSystem());
        byte[] request = FakeKernel.Request(FuseOpcode.StatFs, 8);
        request[0]++;

        Assert.Equal([FakeKernel.Error(Errno.EIO, 8)], kernel.Ask(request));
    }

    [Fact]
    public void Less_than_a_header_is_dropped()
    {
        using FakeKernel kernel = new(new HoldingFileSystem());

        Assert.Empty(kernel.Ask(new byte[39]));
        Assert.Single(kernel.Warnings);
    }

    [Fact]
    public void Extensions_at_the_end_of_a_request_are_not_part_of_its_body()
    {
        using MemoryFileSystem files = new(4096, isFile: false);
        using FakeKernel kernel = new(files);
        byte[] request = FakeKernel.Request(FuseOpcode.Lookup, 8, "6469736b00 0000000000000000");
        request[36] = 1;

        Assert.StartsWith("90000000" + "00000000", Assert.Single(kernel.Ask(request)));
        request[36] = 2;
        Assert.Equal([FakeKernel.Error(Errno.EIO, 8)], kernel.Ask(request));
        request[36] = 0xff;
        Assert.Equal([FakeKernel.Error(Errno.EIO, 8)], kernel.Ask(request));
    }

    [Fact]
    public void A_file_system_that_throws_is_answered_EIO_once()
    {
        using FakeKernel kernel = new(new ThrowingFileSystem());

        Assert.Equal([FakeKernel.Error(Errno.EIO, 8)], kernel.Ask(Read(8)));
        Assert.Equal(0, kernel.Pool.Taken);
        Assert.Contains("no disk today", Assert.Single(kernel.Warnings));

        // One that replied before it threw: the reply stands, and the object is not given back twice.
        string body = new('0', 32);
        Assert.Single(kernel.Ask(FakeKernel.Request(FuseOpcode.GetAttr, 10, body)));
        kernel.Send(FakeKernel.Request(FuseOpcode.Release, 12, body + "0000000000000000"));
        Assert.Equal(1, kernel.Pool.Allocated);
    }

    [Fact]
    public void A_reply_that_the_kernel_refuses_is_warned_about_unless_nobody_waits()
    {
        using FakeKernel kernel = new(new HoldingFileSystem());
        kernel.Channel.Result = Errno.ENOENT;
        kernel.Send(FakeKernel.Request(FuseOpcode.StatFs, 8));
        Assert.Empty(kernel.Warnings);

        kernel.Channel.Result = Errno.EINVAL;
        kernel.Send(FakeKernel.Request(FuseOpcode.StatFs, 10));
        kernel.Send(FakeKernel.Request(FuseOpcode.StatFs, 12));
        Assert.Contains("StatFs", Assert.Single(kernel.Warnings));
    }

    [Fact]
    public void Any_bytes_at_all_get_at_most_one_reply_and_never_an_exception()
    {
        Random random = new(7);
        using MemoryFileSystem files = new(4096, isFile: true);
        using FakeKernel kernel = new(files);
        for (int i = 0; i < 20_000; i++)
        {
            byte[] body = new byte[random.Next(100)];
            random.NextBytes(body);
            if (random.Next(2) == 0)
            {
                // Small numbers reach further than noise does.
                Array.Clear(body, 0, body.Length / 2);
            }

            byte[] request = FakeKernel.Request(
                (FuseOpcode)random.Next(56), (ulong)(i + 1) * 2, Convert.ToHexString(body));
            request[36] = (byte)(random.Next(10) == 0 ? 1 : 0);
            request[0] += (byte)(random.Next(10) == 0 ? 1 : 0);

            Assert.True(kernel.Ask(request).Length <= 1);
            Assert.Equal(0, kernel.Pool.Taken);
        }

        Assert.Equal(1, kernel.Pool.Allocated);
    }

    internal static byte[] Read(ulong unique, uint size = 4096) => FakeKernel.Request(
        FuseOpcode.Read,
        unique,
        new string('0', 32) + Convert.ToHexString(BitConverter.GetBytes(size)) + new string('0', 40));

    private sealed class ThrowingFileSystem : HoldingFileSystem
    {
        protected internal override void Read(FuseRequest request, ulong handle, ulong offset, uint size) =>
            throw new IOException("no disk today");

        protected internal override void GetAttr(FuseRequest request)
        {
            base.GetAttr(request);
            throw new IOException("no disk today");
        }
    }
}
