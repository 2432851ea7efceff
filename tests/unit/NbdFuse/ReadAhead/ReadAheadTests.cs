using Linux;

namespace UnitTests.NbdFuseTests;

/// <summary>Which READs are streams, what is asked for ahead of them, and how they are answered.</summary>
public sealed class ReadAheadTests
{
    private const uint MiB = ReadAheadRig.MiB;
    private const uint ReadBytes = ReadAheadRig.ReadBytes;

    [Fact]
    public void A_reader_from_front_to_back_finds_everything_in_blocks()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        for (; next < 64 * MiB; next += ReadBytes)
        {
            rig.CompleteAll();
            rig.AssertReply(rig.Read(next), 0, next);
        }

        Assert.Empty(rig.Plain);
    }

    [Fact]
    public void Blocks_follow_each_other_without_gap_and_overlap_and_end_at_multiples_of_their_size()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        ulong end = next;
        for (; next < 32 * MiB; next += ReadBytes)
        {
            foreach (BlockCommand command in rig.Commands)
            {
                Assert.Equal(end, command.Offset);
                Assert.Equal(0u, command.End % (256 << 10));
                Assert.InRange(command.Length, 1u, MiB);
                end = command.End;
            }

            rig.CompleteAll();
            rig.AssertReply(rig.Read(next), 0, next);
        }

        Assert.True(end >= next);
    }

    [Fact]
    public void Random_readers_ask_for_nothing_ahead()
    {
        using ReadAheadRig rig = new();
        Random random = new(1);
        for (int i = 0; i < 20_000; i++)
        {
            _ = rig.Read((ulong)random.NextInt64(1 << 18) * 4096, 4096);
            rig.AnswerPlain();
        }

        Assert.Equal(0, rig.CommandsSoFar);
    }

    [Fact]
    public void Random_reads_between_do_not_disturb_a_stream()
    {
        using ReadAheadRig rig = new();
        Random random = new(1);
        ulong next = rig.BeginStream();
        for (; next < 32 * MiB; next += ReadBytes)
        {
            for (int i = 0; i < 20; i++)
            {
                _ = rig.Read((1UL << 32) + ((ulong)random.NextInt64(1 << 20) * 4096), 4096);
                rig.AnswerPlain();
            }

            rig.CompleteAll();
            rig.AssertReply(rig.Read(next), 0, next);
        }
    }

    [Fact]
    public void A_READ_whose_block_is_on_its_way_waits_for_it()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();

        ulong first = rig.Read(next);
        ulong second = rig.Read(next + ReadBytes);
        rig.AssertNoReply();
        Assert.Empty(rig.Plain);
        rig.CompleteAll();

        rig.AssertReply(first, 0, next);
        rig.AssertReply(second, 0, next + ReadBytes);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_READ_over_two_blocks_waits_for_both(bool secondFirst)
    {
        using ReadAheadRig rig = new();
        _ = rig.BeginStream();
        BlockCommand first = rig.TakeCommand();
        BlockCommand second = rig.TakeCommand();
        ulong offset = first.End - 5000;

        ulong unique = rig.Read(offset);
        (secondFirst ? second : first).Complete(0);
        rig.AssertNoReply();
        (secondFirst ? first : second).Complete(0);

        rig.AssertReply(unique, 0, offset);
    }

    [Fact]
    public void READs_that_were_swapped_are_one_stream()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        for (; next < 32 * MiB; next += 2 * ReadBytes)
        {
            rig.CompleteAll();
            rig.AssertReply(rig.Read(next + ReadBytes), 0, next + ReadBytes);
            rig.AssertReply(rig.Read(next), 0, next);
        }
    }

    [Fact]
    public void READs_that_are_swapped_from_the_start_are_found()
    {
        using ReadAheadRig rig = new();
        for (uint i = 0; i < 6; i++)
        {
            _ = rig.Read((i ^ 1) * ReadBytes);
            rig.AnswerPlain();
        }

        Assert.NotEqual(0, rig.CommandsSoFar);
    }

    [Fact]
    public void A_reader_that_skips_as_much_as_it_reads_is_a_stream()
    {
        using ReadAheadRig rig = new();
        for (ulong offset = 0; offset < 32 * MiB; offset += 2 * ReadBytes)
        {
            ulong unique = rig.Read(offset);
            rig.CompleteAll();
            if (offset < 6 * ReadBytes)
            {
                rig.AnswerPlain();
            }
            else
            {
                rig.AssertReply(unique, 0, offset);
            }
        }
    }

    [Fact]
    public void Several_streams_go_on_side_by_side()
    {
        using ReadAheadRig rig = new();
        ulong[] next = [.. Enumerable.Range(0, 8).Select(i => rig.BeginStream((ulong)i << 32))];
        for (int round = 0; round < 100; round++)
        {
            for (int i = 0; i < next.Length; i++)
            {
                rig.CompleteAll();
                rig.AssertReply(rig.Read(next[i]), 0, next[i]);
                next[i] += ReadBytes;
            }
        }
    }

    [Theory]
    [InlineData(8 * MiB)]
    [InlineData((8 * MiB) + 1)]
    [InlineData((8 * MiB) + 4097)]
    [InlineData((8 * MiB) - 513)]
    public void Nothing_is_asked_for_beyond_the_end(ulong sizeBytes)
    {
        using ReadAheadRig rig = new(sizeBytes);
        ulong next = rig.BeginStream();
        ulong furthest = 0;
        while (next < sizeBytes)
        {
            uint length = (uint)Math.Min(ReadBytes, sizeBytes - next);
            foreach (BlockCommand command in rig.Commands)
            {
                furthest = Math.Max(furthest, command.End);
            }

            rig.CompleteAll();
            rig.AssertReply(rig.Read(next, length), 0, next, length);
            next += length;
        }

        Assert.Equal(sizeBytes, furthest);
        Assert.Empty(rig.Commands);
    }

    [Fact]
    public void The_last_bytes_of_the_largest_export_are_read_ahead()
    {
        const ulong SizeBytes = long.MaxValue;
        using ReadAheadRig rig = new(SizeBytes);
        ulong next = rig.BeginStream(SizeBytes - (2 * MiB) + 1);
        while (next < SizeBytes)
        {
            uint length = (uint)Math.Min(ReadBytes, SizeBytes - next);
            rig.CompleteAll();
            rig.AssertReply(rig.Read(next, length), 0, next, length);
            next += length;
        }
    }

    [Fact]
    public void An_error_is_only_shown_to_who_asks_for_that_byte()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        ulong inBlock = rig.Read(next);
        BlockCommand bad = rig.TakeCommand();
        ulong overItsEnd = rig.Read(bad.End - 100);

        bad.Fail(Errno.EIO);
        rig.AssertNoReply();
        Assert.Equal([next, bad.End - 100], rig.Plain.Select(read => read.Offset).Order());
        rig.AnswerPlain();
        rig.CompleteAll();
        ulong behind = rig.Read(bad.End);

        rig.AssertReply(behind, 0, bad.End);
        Assert.NotEqual(inBlock, overItsEnd);
    }

    [Fact]
    public void Where_blocks_failed_READs_ask_the_server_themselves_and_nothing_is_asked_for_twice()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        BlockCommand bad = rig.TakeCommand();
        bad.Fail(Errno.EIO);
        rig.CompleteAll();
        for (; next + ReadBytes <= bad.End; next += ReadBytes)
        {
            _ = rig.Read(next);
            Assert.Single(rig.Plain);
            rig.AnswerPlain();
            Assert.DoesNotContain(rig.Commands, command => command.Offset < bad.End);
            rig.CompleteAll();
        }
    }

    [Fact]
    public void When_no_command_is_accepted_READs_ask_the_server_themselves()
    {
        using ReadAheadRig rig = new() { Refusal = Errno.EIO };
        for (ulong next = 0; next < 4 * MiB; next += ReadBytes)
        {
            _ = rig.Read(next);
            Assert.Single(rig.Plain);
            rig.AnswerPlain();
        }

        Assert.Equal(0, rig.Ahead.UnawaitedCommands);
    }

    [Fact]
    public void A_READ_that_is_interrupted_is_answered_at_once_and_its_block_serves_others()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        ulong interrupted = rig.Read(next);
        ulong other = rig.Read(next);

        rig.Interrupt(interrupted);
        (ulong unique, Errno error, _) = rig.TakeReply();
        Assert.Equal((interrupted, Errno.EINTR), (unique, error));
        Assert.Equal(2, rig.Taken);
        rig.CompleteAll();

        rig.AssertReply(other, 0, next);
        rig.AssertNoReply();
        Assert.Equal(0, rig.Taken);
        rig.AssertReply(rig.Read(next), 0, next);
    }

    [Fact]
    public void A_server_with_small_requests_gets_small_ones()
    {
        using ReadAheadRig rig = new(largestBlock: 32 << 10);
        ulong next = rig.BeginStream();
        for (; next < 8 * MiB; next += ReadBytes)
        {
            Assert.All(rig.Commands, command => Assert.InRange(command.Length, 1u, 32u << 10));
            rig.CompleteAll();
            rig.AssertReply(rig.Read(next), 0, next);
        }
    }
}
