using Fuse;
using NbdFuse;

namespace UnitTests.NbdFuseTests;

/// <summary>No READ gets a byte that is older than a change that was answered before it.</summary>
public sealed class ReadAheadTruthTests
{
    private const uint MiB = ReadAheadRig.MiB;
    private const uint Page = ReadAheadRig.Page;
    private const uint ReadBytes = ReadAheadRig.ReadBytes;

    [Fact]
    public void A_change_drops_the_blocks_of_its_range_that_have_come()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        rig.CompleteAll(generation: 0);
        RangeChange change = new();

        rig.Ahead.BeginChange(change, next, 1);
        rig.Ahead.EndChange(change);
        _ = rig.Read(next);

        Assert.Equal(next, Assert.Single(rig.Plain).Offset);
        rig.AnswerPlain(1);
    }

    [Fact]
    public void A_change_drops_the_blocks_of_its_range_that_are_on_their_way_except_for_READs_that_were_there_before()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        ulong before = rig.Read(next);
        RangeChange change = new();

        rig.Ahead.BeginChange(change, next + Page, Page);
        ulong meanwhile = rig.Read(next);
        rig.Ahead.EndChange(change);
        _ = rig.Read(next);
        rig.CompleteAll(generation: 0);

        rig.AssertReply(before, 0, next);
        Assert.Equal(2, rig.Plain.Count);
        Assert.Equal(meanwhile, rig.Plain.Peek().Request.Unique);
    }

    [Fact]
    public void No_block_of_a_range_is_asked_for_while_it_changes()
    {
        using ReadAheadRig rig = new();
        RangeChange change = new();
        rig.Ahead.BeginChange(change, MiB, Page);
        ulong next = 0;
        for (; next < 4 * MiB; next += ReadBytes)
        {
            _ = rig.Read(next);
            Assert.DoesNotContain(rig.Commands, command => command.Offset < MiB + Page && command.End > MiB);
            rig.CompleteAll();
            rig.AnswerPlainOrTake();
        }

        rig.Ahead.EndChange(change);
        int before = rig.CommandsSoFar;
        _ = rig.BeginStream();
        rig.CompleteAll();
        for (next = 3 * ReadBytes; next < 4 * MiB; next += ReadBytes)
        {
            rig.AssertReply(rig.Read(next), 0, next);
            rig.CompleteAll();
        }

        Assert.True(rig.CommandsSoFar > before);
    }

    [Fact]
    public void A_change_elsewhere_drops_nothing()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        rig.CompleteAll();
        RangeChange before = new();
        RangeChange far = new();

        rig.Ahead.BeginChange(before, next - 1, 1);
        rig.Ahead.BeginChange(far, 64 * MiB, ulong.MaxValue - (64 * MiB));

        rig.AssertReply(rig.Read(next), 0, next);
        rig.Ahead.EndChange(before);
        rig.Ahead.EndChange(far);
    }

    [Theory]
    [InlineData(0, 1, 2)]
    [InlineData(1, 0, 2)]
    [InlineData(2, 1, 0)]
    [InlineData(1, 2, 0)]
    public void Changes_end_in_any_order(params int[] order)
    {
        using ReadAheadRig rig = new();
        RangeChange[] changes = [new(), new(), new()];
        for (int round = 0; round < 2; round++)
        {
            foreach (RangeChange change in changes)
            {
                rig.Ahead.BeginChange(change, 0, 64 * MiB);
            }

            foreach (int i in order)
            {
                for (uint read = 0; read < 4; read++)
                {
                    _ = rig.Read(read * ReadBytes);
                    rig.AnswerPlain();
                }

                Assert.Equal(0, rig.CommandsSoFar);
                rig.Ahead.EndChange(changes[i]);
            }
        }

        _ = rig.BeginStream();
    }

    [Fact]
    public void After_an_open_or_a_lost_connection_nothing_is_used_that_was_asked_for_before()
    {
        using ReadAheadRig rig = new();
        ulong next = rig.BeginStream();
        BlockCommand came = rig.TakeCommand();
        came.Complete(0);
        Assert.NotEmpty(rig.Commands);

        rig.Ahead.Forget();
        rig.CompleteAll(generation: 0);
        for (; next < came.End + MiB; next += ReadBytes)
        {
            ulong unique = rig.Read(next);
            rig.CompleteAll(generation: 1);
            if (rig.Plain.Count > 0)
            {
                rig.AnswerPlain(1);
            }
            else
            {
                rig.AssertReply(unique, 1, next);
            }
        }
    }

    [Fact]
    public void Short_readers_of_files_that_are_opened_again_and_again_ask_for_nothing_ahead()
    {
        using ReadAheadRig rig = new();
        for (ulong next = 0; next < 8 * MiB; next += 2 * ReadBytes)
        {
            rig.Ahead.Forget();
            _ = rig.Read(next);
            _ = rig.Read(next + ReadBytes);
            rig.AnswerPlain();
        }

        Assert.Equal(0, rig.CommandsSoFar);
    }

    /// <summary>
    /// Everything at once, in random order: streams, random READs, changes that the server makes at any time between
    /// their begin and their end, blocks that come late, fail, or grow old, opens. The model knows the version of each
    /// page at the server, and which one was answered when a READ came.
    /// </summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void No_READ_gets_a_byte_that_is_older_than_an_answered_change(int seed)
    {
        const uint Pages = 2048;
        using ReadAheadRig rig = new(Pages * (ulong)Page, slots: 6);
        Random random = new(seed);
        byte[] atServer = new byte[Pages];
        byte[] answered = new byte[Pages];
        Dictionary<ulong, (ulong Offset, uint Length, byte[] AtLeast)> reads = [];
        List<(RangeChange Change, uint First, uint Count, byte Version, bool IsMade)> changes = [];
        ulong[] streams = [0, 512 * Page, 1024 * Page];
        int fromBlocks = 0;
        for (int step = 0; step < 30_000; step++)
        {
            switch (random.Next(20))
            {
                case < 9:
                    int i = random.Next(streams.Length);
                    uint length = (uint)random.Next(1, 17) * Page;
                    Read(streams[i], length);
                    streams[i] = (streams[i] + length) % (Pages * (ulong)Page);
                    break;
                case 9:
                    Read((ulong)random.Next((int)Pages) * Page, Page);
                    break;
                case 10 when changes.Count < 5:
                    uint first = (uint)(streams[random.Next(streams.Length)] / Page) + (uint)random.Next(200);
                    uint count = (uint)random.Next(1, 20);
                    first = Math.Min(first, Pages - count);
                    if (!changes.Exists(other => first < other.First + other.Count && other.First < first + count))
                    {
                        RangeChange change = new();
                        rig.Ahead.BeginChange(change, first * (ulong)Page, count * (ulong)Page);
                        changes.Add((change, first, count, (byte)(atServer.AsSpan((int)first, (int)count).ToArray().Max() + 1), false));
                    }

                    break;
                case 11 or 12 when changes.Count > 0:
                    StepChange(random.Next(changes.Count));
                    break;
                case < 17 when rig.Commands.Count > 0:
                    BlockCommand command = rig.Commands[random.Next(rig.Commands.Count)];
                    _ = rig.Commands.Remove(command);
                    if (random.Next(20) == 0)
                    {
                        command.Fail(Linux.Errno.EIO);
                    }
                    else
                    {
                        command.Complete(Content(command.Offset, command.Length));
                    }

                    break;
                case 17 when rig.Plain.Count > 0:
                    AnswerPlain();
                    break;
                case 18 when random.Next(50) == 0:
                    rig.Ahead.Forget();
                    break;
                default:
                    rig.Time.Advance(TimeSpan.FromMilliseconds(random.Next(20)));
                    break;
            }

            CheckReplies();
        }

        Assert.True(fromBlocks > 300, $"only {fromBlocks} READs were answered from blocks");

        void Read(ulong offset, uint length)
        {
            length = (uint)Math.Min(length, (Pages * (ulong)Page) - offset);
            if (rig.Taken > 1000)
            {
                return;
            }

            ulong unique = rig.NextUnique;
            reads[unique] = (offset, length, answered[(int)(offset / Page)..(int)((offset + length) / Page)]);
            Assert.Equal(unique, rig.Read(offset, length));
        }

        void StepChange(int index)
        {
            (RangeChange change, uint first, uint count, byte version, bool isMade) = changes[index];
            if (!isMade)
            {
                Array.Fill(atServer, version, (int)first, (int)count);
                changes[index] = (change, first, count, version, true);
                return;
            }

            rig.Ahead.EndChange(change);
            changes.RemoveAt(index);
            Array.Fill(answered, version, (int)first, (int)count);
        }

        void AnswerPlain()
        {
            (FuseRequest request, ulong offset, uint length) = rig.Plain.Dequeue();
            request.ReplyBytes(Content(offset, length));
            fromBlocks--;
        }

        byte[] Content(ulong offset, uint length)
        {
            byte[] data = new byte[length];
            for (uint at = 0; at < length; at += Page)
            {
                int page = (int)((offset + at) / Page);
                BitConverter.TryWriteBytes(data.AsSpan((int)at), page);
                data[at + 4] = atServer[page];
            }

            return data;
        }

        void CheckReplies()
        {
            while (rig.TryTakeReply(out ulong unique, out byte[] data))
            {
                (ulong offset, uint length, byte[] atLeast) = reads[unique];
                _ = reads.Remove(unique);
                fromBlocks++;
                Assert.Equal(length, (uint)data.Length);
                for (int i = 0; i < atLeast.Length; i++)
                {
                    int page = (int)(offset / Page) + i;
                    Assert.Equal(page, BitConverter.ToInt32(data, i * (int)Page));
                    byte version = data[(i * (int)Page) + 4];
                    Assert.True(
                        version >= atLeast[i], $"page {page}: version {version}, but {atLeast[i]} was answered before");
                }
            }
        }
    }
}
