using System.Runtime.InteropServices;
using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>Any offset and length on servers that take whole blocks only.</summary>
public sealed unsafe class ByteAccessTests
{
    private const int Size = 1 << 20;
    private const int Block = 4096;
    private const uint LargestPayload = 1 << 17;

    private static readonly string s_blocks = Frame.BlockSizeInfo(Block, Block, LargestPayload);

    [Theory]
    [InlineData(1)]
    [InlineData(512)]
    [InlineData(4096)]
    [InlineData(65536)]
    public void Any_range_is_as_in_a_model(int minimum)
    {
        MemoryDisk disk = new(Size)
        {
            ExtraInfos = Frame.BlockSizeInfo((uint)minimum, (uint)Math.Max(minimum, 4096), LargestPayload),
        };
        byte[] model = new byte[Size];
        Random random = new(minimum);
        Use([disk.Serve], access =>
        {
            byte[] memory = GC.AllocateArray<byte>(400_000, pinned: true);
            for (int i = 0; i < 200; i++)
            {
                int offset = random.Next(Size);
                int length = random.Next(1, Math.Min(Size - offset, i % 3 == 0 ? 400_000 : 9000) + 1);
                if (i % 4 == 0)
                {
                    // As whole blocks it takes the short way.
                    (offset, length) = (offset & -minimum, Math.Max(length & -minimum, minimum));
                }

                if (random.Next(3) == 0)
                {
                    model.AsSpan(offset, length).Clear();
                    Run(c => access.WriteZeroes((ulong)offset, (ulong)length, NbdCommandFlags.None, c));
                }
                else
                {
                    random.NextBytes(memory.AsSpan(0, length));
                    memory.AsSpan(0, length).CopyTo(model.AsSpan(offset));
                    Run(c => access.Write((ulong)offset, Address(memory), (uint)length, NbdCommandFlags.None, c));
                }

                (int from, int count) = (Math.Max(0, offset - 700), Math.Min(length + 1400, 400_000));
                count = Math.Min(count, Size - from);
                Assert.True(model.AsSpan(from, count).SequenceEqual(Read(access, from, count)), $"operation {i}");
                Assert.Equal(
                    Errno.None, access.ReadAsync((ulong)from, memory.AsMemory(0, count)).GetAwaiter().GetResult());
                Assert.True(model.AsSpan(from, count).SequenceEqual(memory.AsSpan(0, count)), $"operation {i}");
            }
        });

        Assert.All(disk.Commands, command =>
        {
            Assert.Equal(0ul, (command.Offset | command.Length) & ((ulong)minimum - 1));
            Assert.True(command.Type == 6 || command.Length <= LargestPayload);
        });
    }

    [Fact]
    public void Writers_of_different_parts_of_the_same_blocks_do_not_undo_each_other()
    {
        const int Writers = 8;
        const int Part = 100;
        MemoryDisk disk = new(Size, MemoryDisk.AllFlags | 0x100) { ExtraInfos = s_blocks };
        Use([disk.Serve, disk.Serve], access =>
        {
            Parallel.For(0, Writers, new ParallelOptions { MaxDegreeOfParallelism = Writers }, writer =>
            {
                byte[] memory = GC.AllocateArray<byte>(Part, pinned: true);
                Array.Fill(memory, (byte)(writer + 1));
                for (int i = 0; i < 150; i++)
                {
                    ulong offset = (ulong)(((i * Writers) + writer) * Part);
                    Run(c => access.Write(offset, Address(memory), Part, NbdCommandFlags.None, c));
                }
            });
            byte[] all = Read(access, 0, Writers * 150 * Part);
            for (int i = 0; i < all.Length; i++)
            {
                Assert.Equal((i / Part % Writers) + 1, all[i]);
            }
        });
    }

    [Fact]
    public void A_write_of_whole_blocks_waits_for_the_edit_of_one_of_them()
    {
        using ManualResetEventSlim hasRead = new();
        using ManualResetEventSlim goOn = new();
        byte[] memory = Pinned(2 * Block, 0x22);
        void Serve(FakePeer peer)
        {
            peer.Handshake(Size, extraInfos: s_blocks);
            FakeRequest read = Expect(peer, 0, 0, Block);
            hasRead.Set();
            Assert.True(goOn.Wait(FakeNbdServer.TimeLimit));
            peer.Send(Frame.DataChunk(true, read.Cookie, 0, new byte[Block]));
            FakeRequest edit = Expect(peer, 1, 0, Block);
            Assert.Equal([.. new byte[10], 0x22, 0x22, .. new byte[Block - 12]], edit.Payload);
            peer.Send(Frame.SimpleReply(0, edit.Cookie));
            FakeRequest whole = Expect(peer, 1, 0, 2 * Block);
            peer.Send(Frame.SimpleReply(0, whole.Cookie));
            End(peer);
        }

        Use([Serve], access =>
        {
            RecordedCompletion edit = new();
            RecordedCompletion whole = new();
            Assert.Equal(Errno.None, access.Write(10, Address(memory), 2, NbdCommandFlags.None, edit));
            Assert.True(hasRead.Wait(FakeNbdServer.TimeLimit));
            Assert.Equal(Errno.None, access.Write(0, Address(memory), 2 * Block, NbdCommandFlags.None, whole));
            goOn.Set();
            Assert.Equal(Errno.None, edit.Outcome);
            Assert.Equal(Errno.None, whole.Outcome);
        });
    }

    [Fact]
    public void An_edit_waits_for_the_write_of_its_whole_block()
    {
        using ManualResetEventSlim goOn = new();
        byte[] memory = Pinned(Block, 0x22);
        void Serve(FakePeer peer)
        {
            peer.Handshake(Size, extraInfos: s_blocks);
            FakeRequest whole = Expect(peer, 1, 0, Block);
            Assert.True(goOn.Wait(FakeNbdServer.TimeLimit));
            // Another block's edit is not held up, and so shows that the one of this block is.
            FakeRequest other = Expect(peer, 0, 8 * Block, Block);
            peer.Send(Frame.SimpleReply(0, whole.Cookie));
            FakeRequest read = Expect(peer, 0, 0, Block);
            peer.Send(Frame.ErrorChunk(true, other.Cookie, 5) + Frame.ErrorChunk(true, read.Cookie, 28));
            End(peer);
        }

        Use([Serve], access =>
        {
            RecordedCompletion whole = new();
            RecordedCompletion edit = new();
            RecordedCompletion other = new();
            Assert.Equal(Errno.None, access.Write(0, Address(memory), Block, NbdCommandFlags.None, whole));
            Assert.Equal(Errno.None, access.Write(10, Address(memory), 2, NbdCommandFlags.None, edit));
            Assert.Equal(Errno.None, access.Write(8 * Block, Address(memory), 2, NbdCommandFlags.None, other));
            goOn.Set();
            Assert.Equal(Errno.None, whole.Outcome);
            // A block that cannot be read is not written.
            Assert.Equal(Errno.EIO, other.Outcome);
            Assert.Equal(Errno.ENOSPC, edit.Outcome);
        });
    }

    [Fact]
    public void A_trim_leaves_blocks_alone_that_it_covers_in_part()
    {
        MemoryDisk disk = new(Size) { ExtraInfos = s_blocks };
        Use([disk.Serve], access =>
        {
            Run(c => access.Trim(1, (2 * Block) - 2, NbdCommandFlags.None, c));
            Run(c => access.Trim(1, (4 * Block) - 2, NbdCommandFlags.None, c));
        });

        Assert.Equal([(4, Block, 2u * Block)], disk.Commands.Take(1).Select(c => (c.Type, (int)c.Offset, c.Length)));
        Assert.Equal(2, disk.Commands.Count(c => c.Type is 4 or 2));
    }

    [Fact]
    public void Durable_writes_are_durable_in_all_of_their_parts()
    {
        byte[] memory = Pinned(3 * Block, 1);
        MemoryDisk disk = new(Size) { ExtraInfos = s_blocks };
        MemoryDisk without = new(Size, MemoryDisk.AllFlags & ~8) { ExtraInfos = s_blocks };
        foreach (MemoryDisk each in new[] { disk, without })
        {
            Use([each.Serve], access => Run(c => access.Write(
                1, Address(memory), 3 * Block, NbdCommandFlags.ForceUnitAccess, c)));
        }

        FakeRequest[] writes = [.. disk.Commands.Where(c => c.Type == 1)];
        Assert.Equal(3, writes.Length);
        Assert.All(writes, write => Assert.Equal(1, write.Flags));
        Assert.All(without.Commands, command => Assert.Equal(0, command.Flags));
        Assert.Equal(3, without.Commands[5].Type);
    }

    [Fact]
    public void An_edit_that_nobody_waits_for_ends_before_its_write_and_lets_others_in()
    {
        byte[] memory = Pinned(Block, 1);
        using ManualResetEventSlim abandoned = new();
        using ManualResetEventSlim hasRead = new();
        void Serve(FakePeer peer)
        {
            peer.Handshake(Size, extraInfos: s_blocks);
            FakeRequest read = Expect(peer, 0, 0, Block);
            hasRead.Set();
            Assert.True(abandoned.Wait(FakeNbdServer.TimeLimit));
            peer.Send(Frame.DataChunk(true, read.Cookie, 0, new byte[Block]));
            FakeRequest next = Expect(peer, 1, 0, Block);
            Assert.Equal(memory, next.Payload);
            peer.Send(Frame.SimpleReply(0, next.Cookie));
            End(peer);
        }

        Use([Serve], access =>
        {
            AbandonedCompletion edit = new();
            Assert.Equal(Errno.None, access.Write(10, Address(memory), 2, NbdCommandFlags.None, edit));
            Assert.True(hasRead.Wait(FakeNbdServer.TimeLimit));
            edit.Abandon();
            abandoned.Set();
            Assert.Equal(Errno.EINTR, edit.Outcome);
            Run(c => access.Write(0, Address(memory), Block, NbdCommandFlags.None, c));
        });
    }

    [Fact]
    public void A_write_that_is_refused_holds_up_no_edit_of_its_block()
    {
        byte[] memory = Pinned(Block, 1);
        UsePool([peer => peer.Handshake(Size, extraInfos: s_blocks)], pool =>
        {
            NbdByteAccess access = new(pool);
            // The server is gone.
            Assert.True(SpinWait.SpinUntil(
                () => access.Write(0, Address(memory), Block, NbdCommandFlags.None, new RecordedCompletion()) == Errno.EIO,
                FakeNbdServer.TimeLimit));
            TransmissionTests.Run(c => access.Write(10, Address(memory), 2, NbdCommandFlags.None, c), Errno.EIO);
        });
    }

    [Fact]
    public void The_pool_refuses_what_is_not_whole_blocks()
    {
        byte[] memory = Pinned(Block, 1);
        RecordedCompletion never = new();
        UsePool(
            [peer =>
            {
                peer.Handshake(Size, extraInfos: s_blocks);
                End(peer);
            }
            ],
            pool =>
            {
                Assert.Equal(Errno.EINVAL, pool.Read(1, Block, NbdCommandFlags.None, never));
                Assert.Equal(Errno.EINVAL, pool.Read(0, Block - 1, NbdCommandFlags.None, never));
                Assert.Equal(Errno.EINVAL, pool.Read(0, LargestPayload + Block, NbdCommandFlags.None, never));
                Assert.Equal(Errno.EINVAL, pool.Write(512, Address(memory), Block, NbdCommandFlags.None, never));
                Assert.Equal(Errno.EINVAL, pool.WriteZeroes(0, 1, NbdCommandFlags.None, never));
                Assert.Equal(Errno.EINVAL, pool.Trim(0, 0, NbdCommandFlags.None, never));
            });
        Assert.Equal(0, never.Calls);
    }

    [Fact]
    public void The_part_of_a_block_at_the_end_cannot_be_reached()
    {
        MemoryDisk disk = new((3 * Block) + 100) { ExtraInfos = s_blocks };
        Use([disk.Serve], access =>
        {
            RecordedCompletion never = new();
            Assert.Equal(3 * Block, access.SizeBytes);
            Assert.Equal(Errno.EINVAL, access.Read(3 * Block, 1, never));
            Assert.Equal(Errno.ENOSPC, access.WriteZeroes(0, (3 * Block) + 1, NbdCommandFlags.None, never));
            Assert.Equal(Block, Read(access, 2 * Block, Block).Length);
        });
    }

    [Theory]
    [InlineData(1)]
    [InlineData(Block)]
    public void Commands_of_whole_blocks_allocate_nothing(int minimum)
    {
        byte[] memory = Pinned(Block, 1);
        MemoryDisk disk = new(Size) { ExtraInfos = Frame.BlockSizeInfo((uint)minimum, Block, LargestPayload) };
        Use([disk.Serve], access =>
        {
            CountedCompletion completion = new();
            int completed = 0;
            Run();
            Assert.Equal(0, Allocations.Fewest(GC.GetAllocatedBytesForCurrentThread, Run));

            void Run()
            {
                for (int i = 0; i < 100; i++)
                {
                    Errno write = access.Write(0, Address(memory), Block, NbdCommandFlags.None, completion);
                    completion.WaitFor(++completed);
                    Errno read = access.Read(0, Block, completion);
                    completion.WaitFor(++completed);
                    Assert.True(write == Errno.None && read == Errno.None);
                }
            }
        });
    }

    private static void Use(Action<FakePeer>[] scripts, Action<NbdByteAccess> use) =>
        UsePool(scripts, pool => use(new NbdByteAccess(pool)));

    private static void UsePool(Action<FakePeer>[] scripts, Action<NbdConnectionPool> use)
    {
        using FakeNbdServer server = new(scripts);
        using (NbdConnectionPool pool = TransmissionTests.Connect(server, scripts.Length))
        {
            use(pool);
            _ = pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit);
        }

        server.Finish();
    }

    private static FakeRequest Expect(FakePeer peer, int type, int offset, int length)
    {
        FakeRequest request = peer.ReceiveRequest();
        Assert.Equal((type, offset, length), (request.Type, (int)request.Offset, (int)request.Length));
        return request;
    }

    /// <summary>The end of a pool: a FLUSH if anything was changed.</summary>
    private static void End(FakePeer peer)
    {
        FakeRequest request = peer.ReceiveRequest();
        if (request.Type == 3)
        {
            peer.Send(Frame.SimpleReply(0, request.Cookie));
            request = peer.ReceiveRequest();
        }

        Assert.Equal(2, request.Type);
        peer.ExpectEnd();
    }

    private static byte[] Read(NbdByteAccess access, int offset, int length)
    {
        RecordedCompletion completion = new(length);
        Assert.Equal(Errno.None, access.Read((ulong)offset, (uint)length, completion));
        Assert.Equal(Errno.None, completion.Outcome);
        return completion.Data!;
    }

    private static void Run(Func<RecordedCompletion, Errno> submit) => TransmissionTests.Run(submit);

    private static byte[] Pinned(int length, byte value)
    {
        byte[] memory = GC.AllocateArray<byte>(length, pinned: true);
        Array.Fill(memory, value);
        return memory;
    }

    private static byte* Address(byte[] pinned) => (byte*)Marshal.UnsafeAddrOfPinnedArrayElement(pinned, 0);

    private sealed class AbandonedCompletion : NbdCompletion
    {
        private readonly TaskCompletionSource<Errno> _outcome = new();
        private volatile bool _isAbandoned;

        internal Errno Outcome => _outcome.Task.WaitAsync(FakeNbdServer.TimeLimit).GetAwaiter().GetResult();

        protected internal override bool IsAbandoned => _isAbandoned;

        internal void Abandon() => _isAbandoned = true;

        protected internal override void OnCompleted(Errno outcome, byte* data) => _outcome.SetResult(outcome);
    }

    private sealed class CountedCompletion : NbdCompletion
    {
        private int _count;

        internal void WaitFor(int count)
        {
            SpinWait spin = default;
            while (Volatile.Read(ref _count) < count)
            {
                spin.SpinOnce();
            }
        }

        protected internal override void OnCompleted(Errno outcome, byte* data)
        {
            Assert.True(outcome == Errno.None);
            Interlocked.Increment(ref _count);
        }
    }
}
