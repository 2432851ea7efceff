using System.Buffers.Binary;
using Fuse;
using Linux;

namespace UnitTests.FuseTests;

public sealed class InterruptTests
{
    [Fact]
    public void The_original_request_is_answered_EINTR_at_once_and_stays_taken_until_its_own_reply()
    {
        HoldingFileSystem files = new();
        using FakeKernel kernel = new(files);
        kernel.Send(DispatcherTests.Read(10));
        FuseRequest request = files.TakeHeld();

        Assert.Equal([FakeKernel.Error(Errno.EINTR, 10)], kernel.Ask(FakeKernel.Interrupt(10)));
        Assert.False(request.IsPending);
        Assert.Equal(1, kernel.Pool.Taken);

        request.ReplyBytes("late"u8);
        Assert.Empty(kernel.Channel.Replies);
        Assert.Equal(0, kernel.Pool.Taken);
    }

    [Fact]
    public void A_requester_that_is_not_to_end_waits_on()
    {
        HoldingFileSystem files = new();
        using FakeKernel kernel = new(files);
        byte[] read = DispatcherTests.Read(10);
        BinaryPrimitives.WriteUInt32LittleEndian(read.AsSpan(32), (uint)Environment.ProcessId);
        kernel.Send(read);

        Assert.Empty(kernel.Ask(FakeKernel.Interrupt(10)));

        files.TakeHeld().ReplyError(Errno.EIO);
        Assert.Equal([FakeKernel.Error(Errno.EIO, 10)], kernel.Channel.Take());
    }

    [Fact]
    public void An_interrupt_whose_target_is_not_there_is_asked_again()
    {
        using FakeKernel kernel = new(new HoldingFileSystem());

        Assert.Equal([FakeKernel.Error(Errno.EAGAIN, 11)], kernel.Ask(FakeKernel.Interrupt(10)));
        Assert.Empty(kernel.OtherChannel.Replies);
    }

    [Fact]
    public void An_interrupt_after_the_reply_answers_nothing_but_itself()
    {
        HoldingFileSystem files = new();
        using FakeKernel kernel = new(files);
        kernel.Send(DispatcherTests.Read(10));
        files.TakeHeld().ReplyError(Errno.EIO);
        Assert.Equal([FakeKernel.Error(Errno.EIO, 10)], kernel.Channel.Take());
        kernel.Send(DispatcherTests.Read(12));

        Assert.Equal([FakeKernel.Error(Errno.EAGAIN, 11)], kernel.Ask(FakeKernel.Interrupt(10)));
        Assert.True(files.TakeHeld().IsPending);
    }

    [Fact]
    public void Answers_go_to_the_channel_that_the_request_was_read_from()
    {
        HoldingFileSystem files = new();
        using FakeKernel kernel = new(files);
        kernel.Send(DispatcherTests.Read(10), kernel.OtherChannel);

        kernel.Send(FakeKernel.Interrupt(10), kernel.Channel);

        Assert.Empty(kernel.Channel.Replies);
        Assert.Equal([FakeKernel.Error(Errno.EINTR, 10)], kernel.OtherChannel.Take());
        files.TakeHeld().ReplyEmpty();
    }

    [Fact]
    public void An_unknown_target_is_looked_for_on_all_channels()
    {
        using FakeKernel kernel = new(new HoldingFileSystem());
        kernel.Channel.Result = Errno.ENOENT;

        kernel.Send(FakeKernel.Interrupt(10), kernel.Channel);

        Assert.Equal([FakeKernel.Error(Errno.EAGAIN, 11)], kernel.OtherChannel.Take());
    }

    [Fact]
    public void Everything_pending_can_be_failed_at_once()
    {
        HoldingFileSystem files = new();
        using FakeKernel kernel = new(files);
        kernel.Send(DispatcherTests.Read(10));
        kernel.Send(DispatcherTests.Read(12));
        files.TakeHeld().ReplyError(Errno.EPERM);
        _ = kernel.Channel.Take();

        Assert.Equal(1, kernel.Pool.AnswerAll(Errno.EIO));
        Assert.Equal([FakeKernel.Error(Errno.EIO, 12)], kernel.Channel.Take());
        files.TakeHeld().ReplyEmpty();
        Assert.Empty(kernel.Channel.Replies);
    }

    [Fact]
    public void A_second_answer_is_a_bug_that_does_not_go_unseen()
    {
        HoldingFileSystem files = new();
        using FakeKernel kernel = new(files);
        kernel.Send(DispatcherTests.Read(10));
        FuseRequest request = files.TakeHeld();
        request.ReplyEmpty();

        Assert.Throws<InvalidOperationException>(request.ReplyEmpty);
        Assert.Single(kernel.Channel.Take());
    }

    [Fact]
    public void Replies_racing_with_interrupts_are_sent_exactly_once()
    {
        const int Rounds = 20_000;
        HoldingFileSystem files = new();
        using FakeKernel kernel = new(files);
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        using Barrier barrier = new(2);
        Thread interrupter = new(() =>
        {
            for (ulong i = 1; i <= Rounds; i++)
            {
                barrier.SignalAndWait(cancellation);
                kernel.Send(FakeKernel.Interrupt(i * 2));
                barrier.SignalAndWait(cancellation);
            }
        });
        interrupter.Start();

        for (ulong i = 1; i <= Rounds; i++)
        {
            kernel.Send(DispatcherTests.Read(i * 2));
            FuseRequest request = files.TakeHeld();
            barrier.SignalAndWait(cancellation);
            request.ReplyError(Errno.EIO);
            barrier.SignalAndWait(cancellation);

            string[] replies = kernel.Channel.Take();
            Assert.Single(replies, reply => reply.EndsWith(FakeKernel.Hex(i * 2), StringComparison.Ordinal));
        }

        interrupter.Join();
        Assert.Equal(0, kernel.Pool.Taken);
    }
}
