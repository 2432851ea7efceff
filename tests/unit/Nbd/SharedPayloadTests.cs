using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>WRITEs of a ring's connection whose payload lies in shared memory: the socket refers to its pages.</summary>
public sealed unsafe class SharedPayloadTests
{
    private const int MiB = 1 << 20;

    [Fact]
    public void Only_what_is_large_is_referred_to()
    {
        const int Large = 64 << 10;
        const int Small = 32 << 10;
        using ManualResetEventSlim changed = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(flags: 0x0c69);
            Assert.True(changed.Wait(FakeNbdServer.TimeLimit));
            FakeRequest small = peer.ReceiveRequest();
            Assert.Equal(TransmissionTests.Pattern(0, Small), small.Payload);
            FakeRequest large = peer.ReceiveRequest();
            Assert.All(large.Payload, value => Assert.Equal(0xee, value));
            peer.Send(Frame.SimpleReply(0, small.Cookie) + Frame.SimpleReply(0, large.Cookie));
            peer.ExpectDisconnect();
        });
        using Rig rig = new(server, 1);
        SharedCompletion small = rig.Write(0, Small);
        SharedCompletion large = rig.Write(0, Large);

        // No program may do this: it shows whose bytes the server gets.
        rig.Data.Fill(0xee);
        changed.Set();

        Assert.Equal(Errno.None, small.Outcome);
        Assert.Equal(Errno.None, large.Outcome);
        rig.Finish();
    }

    [Fact]
    public void A_server_that_reads_late_gets_all_of_them()
    {
        const int Writes = 9;
        using ManualResetEventSlim submitted = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(size: Writes * MiB, flags: 0x0c69);
            Assert.True(submitted.Wait(FakeNbdServer.TimeLimit));
            for (int i = 0; i < Writes; i++)
            {
                FakeRequest write = peer.ReceiveRequest();
                Assert.Equal(TransmissionTests.Pattern(write.Offset, MiB), write.Payload);
                peer.Send(Frame.SimpleReply(0, write.Cookie));
            }

            peer.ExpectDisconnect();
        });
        using Rig rig = new(server, Writes);
        SharedCompletion[] writes = [.. Enumerable.Range(0, Writes).Select(i => rig.Write(i * MiB, MiB))];
        submitted.Set();

        Assert.All(writes, write => Assert.Equal(Errno.None, write.Outcome));
        rig.Finish();
    }

    [Fact]
    public void What_sendfile_refuses_is_copied()
    {
        const int Large = 64 << 10;
        using ManualResetEventSlim changed = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(size: 2 * MiB, flags: 0x0c69);
            Assert.True(changed.Wait(FakeNbdServer.TimeLimit));
            FakeRequest copied = peer.ReceiveRequest();
            Assert.Equal(TransmissionTests.Pattern(0, Large), copied.Payload);
            FakeRequest part = peer.ReceiveRequest();
            Assert.Equal(TransmissionTests.Pattern(MiB, MiB), part.Payload);
            peer.Send(Frame.SimpleReply(0, copied.Cookie) + Frame.SimpleReply(0, part.Cookie));
            peer.ExpectDisconnect();
        });
        using Rig rig = new(server, 2);

        // EINVAL.
        SharedCompletion copied = rig.Write(0, Large, memoryOffset: long.MinValue / 2);
        rig.Data[..Large].Fill(0xee);
        SharedCompletion part = rig.Write(MiB, MiB, memoryOffset: long.MinValue / 2);
        changed.Set();

        Assert.Equal(Errno.None, copied.Outcome);
        Assert.Equal(Errno.None, part.Outcome);
        rig.Finish();
    }

    [Fact]
    public void What_a_lost_connection_has_not_delivered_stays_as_it_was()
    {
        using ManualResetEventSlim submitted = new();
        using ManualResetEventSlim changed = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(flags: 0x0c69);
            Assert.True(submitted.Wait(FakeNbdServer.TimeLimit));
            peer.Send(Frame.SimpleReply(0, 0x77));
            Assert.True(changed.Wait(FakeNbdServer.TimeLimit));
            Assert.Equal(TransmissionTests.Pattern(0, MiB), peer.ReceiveRequest().Payload);
        });
        using Rig rig = new(server, 1);
        SharedCompletion write = rig.Write(0, MiB);
        submitted.Set();
        Assert.Equal(Errno.EIO, write.Outcome);
        rig.Data.Fill(0xee);
        changed.Set();
        server.Finish();
    }

    /// <summary>A pool over a ring, and memory with a pattern to write.</summary>
    private sealed class Rig : IDisposable
    {
        private readonly FakeNbdServer _server;
        private readonly RingSet _rings = new("test");
        private readonly SharedMemory _memory;
        private readonly NativeBuffer _buffer;
        private readonly NbdConnectionPool _pool;

        internal Rig(FakeNbdServer server, int mebibytes)
        {
            _server = server;
            _memory = new SharedMemory("test", mebibytes * MiB);
            _buffer = new NativeBuffer(_memory, 0, mebibytes * MiB);
            TransmissionTests.Pattern(0, (uint)(mebibytes * MiB)).CopyTo(Data);
            NbdClientOptions options = new() { Rings = _rings };
            _pool = NbdConnectionPool.Connect(server.Endpoint, "", options, CancellationToken.None);
            Assert.True(_pool.UsesRings);
        }

        internal Span<byte> Data => new(_buffer.Start, _buffer.Length);

        /// <summary>Writes bytes to where they lie in the memory.</summary>
        internal SharedCompletion Write(int offset, int length, long? memoryOffset = null)
        {
            SharedCompletion completion = new(_memory, memoryOffset ?? offset);
            Assert.Equal(
                Errno.None,
                _pool.Write((ulong)offset, _buffer.Start + offset, (uint)length, NbdCommandFlags.None, completion));
            return completion;
        }

        internal void Finish()
        {
            Assert.Equal(Errno.None, _pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
            _server.Finish();
        }

        public void Dispose()
        {
            _pool.Dispose();
            _rings.Dispose();
            _buffer.Dispose();
            _memory.Dispose();
        }
    }

    private sealed class SharedCompletion(SharedMemory memory, long start) : RecordedCompletion
    {
        protected internal override SharedMemory? MemoryOf(byte* payload, out long offset)
        {
            offset = start;
            return memory;
        }
    }
}
