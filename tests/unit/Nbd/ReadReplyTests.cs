using System.Runtime.InteropServices;
using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>The data of READs: in one piece or in many, wherever they are cut, and where it is received.</summary>
public sealed unsafe class ReadReplyTests
{
    [Fact]
    public void Chunks_of_several_reads_may_be_mixed_and_in_any_order()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            (FakeRequest a, FakeRequest b) = (peer.ReceiveRequest(), peer.ReceiveRequest());
            peer.Send(TransmissionTests.Data(a, 200, 56, false) + TransmissionTests.Data(b, 0, 100, false) + TransmissionTests.Data(a, 0, 100, false));
            peer.Send(Frame.HoleChunk(false, b.Cookie, b.Offset + 101, 155) + TransmissionTests.Data(b, 100, 1, true));
            peer.Send(TransmissionTests.Data(a, 100, 100, false) + Frame.Chunk(true, 0, a.Cookie));
            peer.Drain();
        });
        using NbdConnectionPool pool = TransmissionTests.Connect(server);
        (RecordedCompletion first, RecordedCompletion second) = (TransmissionTests.Read(pool, 1000, 256), TransmissionTests.Read(pool, 5000, 256));

        TransmissionTests.AssertPattern(first, 1000, 256);
        Assert.Equal(Errno.None, second.Outcome);
        Assert.Equal(TransmissionTests.Pattern(5000, 101), second.Data![..101]);
        Assert.All(second.Data[101..], value => Assert.Equal(0, value));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Data_is_received_at_the_destination_of_its_read(bool structured)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(structured: structured);
            if (structured)
            {
                FakeRequest request = peer.ReceiveRequest();
                peer.Send(TransmissionTests.Data(request, 0, 1000, true));
                request = peer.ReceiveRequest();
                peer.Send(TransmissionTests.Data(request, 400, 600, false) + TransmissionTests.Data(request, 0, 400, true));
                request = peer.ReceiveRequest();
                peer.Send(Frame.HoleChunk(true, request.Cookie, request.Offset, request.Length));
            }
            else
            {
                FakeRequest request = peer.ReceiveRequest();
                peer.Send(Frame.SimpleReply(0, request.Cookie) + Frame.Bytes(TransmissionTests.Pattern(request.Offset, request.Length)));
            }

            peer.Drain();
        });
        using NbdConnectionPool pool = TransmissionTests.Connect(server);
        byte[] memory = GC.AllocateArray<byte>(1002, pinned: true);
        for (int i = 0; i < (structured ? 3 : 1); i++)
        {
            memory.AsSpan().Fill(0xaa);
            RecordedDestination read = new();
            Assert.Equal(Errno.None, pool.Read(77, Address(memory) + 1, 1000, NbdCommandFlags.None, read));

            Assert.Equal((nint)Address(memory) + 1, read.Data);
            Assert.Equal(i == 2 ? new byte[1000] : TransmissionTests.Pattern(77, 1000), memory[1..1001]);
            Assert.Equal((0xaa, 0xaa), (memory[0], memory[1001]));
        }
    }

    [Fact]
    public void Replies_may_be_split_at_every_byte()
    {
        foreach (bool structured in new[] { false, true })
        {
            int parts = 0;
            using FakeNbdServer server = new(peer =>
            {
                peer.Handshake(structured: structured);
                for (int split = 1; split > 0; split++)
                {
                    FakeRequest request = peer.ReceiveRequest();
                    string reply = structured
                        ? TransmissionTests.Data(request, 0, 10, false)
                            + Frame.HoleChunk(false, request.Cookie, request.Offset + 10, 5)
                            + TransmissionTests.Data(request, 15, 17, true)
                        : Frame.SimpleReply(0, request.Cookie) + Frame.Bytes(TransmissionTests.Pattern(request.Offset, request.Length));
                    Volatile.Write(ref parts, reply.Length / 2);
                    if (split == reply.Length / 2)
                    {
                        peer.SendByteByByte(reply);
                        break;
                    }

                    peer.SendInTwo(reply, split);
                }

                peer.Drain();
            });
            using NbdConnectionPool pool = TransmissionTests.Connect(server);
            int reads = 0;
            do
            {
                RecordedCompletion read = TransmissionTests.Read(pool, 3, 32);
                Assert.Equal(Errno.None, read.Outcome);
                byte[] expected = TransmissionTests.Pattern(3, 32);
                if (structured)
                {
                    Array.Clear(expected, 10, 5);
                }

                Assert.Equal(expected, read.Data);
                reads++;
            }
            while (reads < Volatile.Read(ref parts));
        }
    }

    [Fact]
    public void A_read_of_the_largest_size_arrives_in_one_or_many_pieces()
    {
        const uint Length = 1024 * 1024;
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(size: 4 * Length);
            FakeRequest request = peer.ReceiveRequest();
            peer.Send(TransmissionTests.Data(request, 0, Length, true));
            request = peer.ReceiveRequest();
            for (uint start = 0; start < Length; start += 65536)
            {
                // Two neighbours swapped, so that they come out of order.
                uint swapped = start ^ 65536;
                peer.Send(TransmissionTests.Data(request, swapped, 65536, start == Length - 65536));
            }

            request = peer.ReceiveRequest();
            peer.Send(Frame.HoleChunk(true, request.Cookie, request.Offset, Length));
            peer.Drain();
        });
        using NbdConnectionPool pool = TransmissionTests.Connect(server);

        Assert.Equal((int)Length, pool.MaximumReadBytes);
        TransmissionTests.AssertPattern(TransmissionTests.Read(pool, 77, Length), 77, Length);
        TransmissionTests.AssertPattern(TransmissionTests.Read(pool, 0, Length), 0, Length);
        RecordedCompletion hole = TransmissionTests.Read(pool, 0, Length);
        Assert.Equal(Errno.None, hole.Outcome);
        Assert.Equal(-1, hole.Data.AsSpan().IndexOfAnyExcept((byte)0));
    }

    private static byte* Address(byte[] pinned) => (byte*)Marshal.UnsafeAddrOfPinnedArrayElement(pinned, 0);

    private sealed class RecordedDestination : NbdCompletion
    {
        private readonly TaskCompletionSource<nint> _data = new();

        internal nint Data => _data.Task.WaitAsync(FakeNbdServer.TimeLimit).GetAwaiter().GetResult();

        protected internal override void OnCompleted(Errno outcome, byte* data) =>
            _data.SetResult(outcome == Errno.None ? (nint)data : 0);
    }
}
