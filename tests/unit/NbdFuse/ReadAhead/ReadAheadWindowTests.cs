namespace UnitTests.NbdFuseTests;

/// <summary>How far ahead is read, how long blocks live, and how much memory they take.</summary>
public sealed class ReadAheadWindowTests
{
    private const uint MiB = ReadAheadRig.MiB;
    private const uint ReadBytes = ReadAheadRig.ReadBytes;

    // Blocks end at multiples of their size; half of one must have room. And the READ that asks is not ahead.
    private const uint MaximumExcess = (MiB / 2) + ReadBytes;

    [Fact]
    public void A_reader_that_waits_gets_a_window_for_the_way_to_the_server()
    {
        using ReadAheadRig rig = new();
        Assert.InRange(FarthestAhead(rig, TimeSpan.FromMilliseconds(100), until: 256 * MiB), 31 * MiB, (32 * MiB) + MaximumExcess);
    }

    [Fact]
    public void A_far_server_is_asked_for_all_that_its_way_needs_after_a_few_round_trips()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        int roundTrips = 0;
        for (; !rig.Commands.Exists(command => command.End >= next + (31 * MiB)); next += ReadBytes)
        {
            ulong unique = rig.Read(next);
            if (rig.Commands.Exists(command => command.Offset < next + ReadBytes))
            {
                rig.Time.Advance(TimeSpan.FromMilliseconds(50));
                rig.CompleteAll();
                roundTrips++;
            }

            rig.AssertReply(unique, 0, next);
        }

        Assert.InRange(roundTrips, 1, 4);
    }

    [Fact]
    public void A_near_server_gets_a_small_window()
    {
        using ReadAheadRig rig = new();
        Assert.InRange(FarthestAhead(rig, TimeSpan.FromMilliseconds(0.5), until: 256 * MiB), 3 * MiB, (4 * MiB) + MaximumExcess);
    }

    [Fact]
    public void A_reader_that_never_waits_keeps_its_window()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        ulong farthest = 0;
        rig.CompleteAll();
        for (; next < 32 * MiB; next += ReadBytes)
        {
            rig.AssertReply(rig.Read(next), 0, next);
            farthest = Math.Max(farthest, rig.Commands.Select(command => command.End - next).DefaultIfEmpty().Max());
            rig.CompleteAll();
        }

        Assert.InRange(farthest, 1u, 2 * MiB);
    }

    [Theory]
    [InlineData(MiB, true, true, 0.5, false)]
    [InlineData(ReadBytes, true, true, 0.5, true)]
    [InlineData(MiB, false, true, 0.5, true)]
    [InlineData(MiB, true, false, 0.5, true)]
    [InlineData(MiB, true, true, 10, true)]
    public void A_program_with_several_large_reads_in_flight_gets_no_blocks_from_a_near_server(
        uint readBytes, bool isDirect, bool sharesDataBuffers, double latency, bool getsBlocks)
    {
        using ReadAheadRig rig = new(sharesDataBuffers: sharesDataBuffers) { IsDirect = isDirect };
        ulong next = rig.BeginStream(0, readBytes);
        rig.Time.Advance(TimeSpan.FromMilliseconds(latency));
        rig.CompleteAll();
        int before = 0;
        for (int i = 0; i < 128; i++)
        {
            before = i == 64 ? rig.CommandsSoFar : before;
            _ = rig.Read(next, readBytes);
            next += readBytes;
            if (rig.Plain.Count + rig.Commands.Count > 3)
            {
                rig.Time.Advance(TimeSpan.FromMilliseconds(latency));
                rig.AnswerFirst();
            }
        }

        Assert.Equal(getsBlocks, rig.CommandsSoFar > before);
    }

    [Fact]
    public void A_slow_link_gets_no_long_queue()
    {
        // 10 MB/s: each block takes a tenth of a second, one after the other.
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        int longest = 0;
        while (next < 64 * MiB)
        {
            ulong unique = rig.Read(next);
            longest = Math.Max(longest, rig.Commands.Count);
            while (rig.Commands.Count > 0 && rig.Commands[0].Offset < next + ReadBytes)
            {
                rig.Time.Advance(TimeSpan.FromSeconds(rig.Commands[0].Length / 10e6));
                rig.TakeCommand().Complete(0);
            }

            rig.AssertReply(unique, 0, next);
            next += ReadBytes;
        }

        Assert.InRange(longest, 1, 5);
    }

    [Fact]
    public void A_block_is_not_used_once_it_is_old()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        rig.CompleteAll(generation: 1);

        rig.Time.Advance(NbdFuse.ReadAhead.Lifetime - TimeSpan.FromMilliseconds(1));
        rig.AssertReply(rig.Read(next), 1, next);
        rig.Time.Advance(TimeSpan.FromMilliseconds(2));
        _ = rig.Read(next + ReadBytes);

        Assert.Single(rig.Plain);
    }

    [Fact]
    public void Memory_is_given_back_when_nobody_reads()
    {
        using ReadAheadRig rig = new();
        _ = rig.BeginStream();
        Assert.NotEqual(0, rig.Memory.TouchedBytes);
        Assert.True(rig.Time.IsTimerSet);

        // A command in flight keeps its memory.
        rig.Time.Advance(TimeSpan.FromSeconds(10));
        Assert.NotEqual(0, rig.Memory.TouchedBytes);
        rig.CompleteAll();
        rig.Time.Advance(TimeSpan.FromSeconds(3));

        Assert.Equal(0, rig.Memory.TouchedBytes);
        Assert.False(rig.Time.IsTimerSet);
        Assert.Equal(64, FreeSlots(rig));
    }

    [Fact]
    public void A_reader_that_reads_seldom_is_not_a_stream()
    {
        using ReadAheadRig rig = new();
        for (ulong next = 0; next < 8 * MiB; next += ReadBytes)
        {
            _ = rig.Read(next);
            rig.AnswerPlain();
            rig.Time.Advance(2 * NbdFuse.ReadAhead.Lifetime);
        }

        Assert.Equal(0, rig.CommandsSoFar);
    }

    [Fact]
    public void Many_streams_take_no_more_memory_than_there_is()
    {
        const int Slots = 6;
        using ReadAheadRig rig = new(slots: Slots);
        Random random = new(5);
        ulong[] next = [.. Enumerable.Range(0, 100).Select(i => (ulong)i << 30)];
        for (int round = 0; round < 5000; round++)
        {
            int i = random.Next(next.Length);
            for (int read = 0; read < 4; read++)
            {
                _ = rig.Read(next[i]);
                next[i] += ReadBytes;
                Assert.InRange(rig.Commands.Count, 0, Slots);
            }

            if (random.Next(3) == 0 && rig.Commands.Count > 0)
            {
                rig.TakeCommand().Complete(0);
            }

            while (rig.Plain.TryDequeue(out (Fuse.FuseRequest Request, ulong, uint) plain))
            {
                plain.Request.ReplyEmpty();
            }

            rig.Time.Advance(TimeSpan.FromMilliseconds(5));
        }

        Assert.InRange(rig.Memory.TouchedBytes, 1, Slots * (long)MiB);
        rig.CompleteAll();
        rig.Time.Advance(TimeSpan.FromSeconds(3));
        Assert.Equal(Slots, FreeSlots(rig));
    }

    [Fact]
    public void A_reader_that_uses_little_of_its_blocks_gets_a_smaller_window()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        ulong asked = 0;
        ulong read = 0;
        for (; next < 256 * MiB; next += 5 * 4096)
        {
            ulong unique = rig.Read(next, 4096);
            read += 4096;
            asked += rig.Commands.Aggregate(0UL, (sum, command) => sum + command.Length);
            rig.CompleteAll();
            if (rig.Plain.Count > 0)
            {
                rig.AnswerPlain();
            }
            else
            {
                rig.AssertReply(unique, 0, next, 4096);
            }

            Assert.All(rig.Commands.Take(1), command => Assert.InRange(command.End - next, 0u, 2 * MiB));
        }

        Assert.InRange(asked, read, 6 * read);
    }

    /// <summary>A reader as fast as the server: how far ahead of it is read at most.</summary>
    private static ulong FarthestAhead(ReadAheadRig rig, TimeSpan latency, ulong until)
    {
        ulong next = rig.BeginStream();
        ulong farthest = 0;
        while (next < until)
        {
            ulong unique = rig.Read(next);
            farthest = Math.Max(farthest, rig.Commands.Select(command => command.End - next).DefaultIfEmpty().Max());
            if (rig.Commands.Exists(command => command.Offset < next + ReadBytes))
            {
                // All of them were sent a while ago, and come together.
                rig.Time.Advance(latency);
                rig.CompleteAll();
            }

            rig.AssertReply(unique, 0, next);
            next += ReadBytes;
        }

        return farthest;
    }

    private static int FreeSlots(ReadAheadRig rig)
    {
        List<int> slots = [];
        for (int slot = rig.Memory.TryTake(); slot >= 0; slot = rig.Memory.TryTake())
        {
            slots.Add(slot);
        }

        slots.ForEach(rig.Memory.Return);
        return slots.Count;
    }
}
