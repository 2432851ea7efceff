using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>
/// Conversations with a few bytes changed at random (the seeds are fixed): whatever comes, the client ends with a
/// clean error or with what was said, each command completes once, and nothing hangs.
/// </summary>
public sealed class MutationTests
{
    private const int Rounds = 400;

    [Fact]
    public void Any_handshake_ends()
    {
        string conversation = Frame.Newstyle()
            + Frame.OptionReply(Frame.StructuredReply, Frame.Ack)
            + Frame.BlockSizeInfo(1, 4096, 65536)
            + Frame.OptionReply(Frame.Go, Frame.Info, Frame.U16(2) + Frame.Text("a disk"))
            + Frame.ExportInfo(4096, 1)
            + Frame.OptionReply(Frame.Go, Frame.Ack);
        for (int seed = 0; seed < Rounds; seed++)
        {
            byte[] bytes = Mutate(conversation, seed);
            using FakeNbdServer server = new(peer => peer.SendAndShutDown(bytes));
            using SafeFd socket =
                SocketConnector.Connect(server.Endpoint, HandshakeTests.Soon(), CancellationToken.None);
            try
            {
                NbdExport export =
                    NbdHandshake.Run(socket, "", "fake", HandshakeTests.Soon(), CancellationToken.None).Export;
                Assert.InRange(export.SizeBytes, 0, long.MaxValue);
                Assert.InRange(export.MinimumBlockBytes, 1, 65536);
                Assert.InRange(export.MaximumPayloadBytes, 512, 64 * 1024 * 1024);
            }
            catch (NbdException e)
            {
                Assert.NotEqual(Errno.ETIMEDOUT, e.Errno);
                Assert.DoesNotContain(e.Message, c => char.IsControl(c));
            }
        }
    }

    [Fact]
    public void Any_reply_completes_each_command_once()
    {
        for (int seed = 0; seed < Rounds; seed++)
        {
            using FakeNbdServer server = new(peer =>
            {
                peer.Handshake();
                (FakeRequest a, FakeRequest b, FakeRequest flush) =
                    (peer.ReceiveRequest(), peer.ReceiveRequest(), peer.ReceiveRequest());
                string replies = TransmissionTests.Data(a, 0, 8, false)
                    + Frame.HoleChunk(false, b.Cookie, b.Offset, 4)
                    + Frame.SimpleReply(0, flush.Cookie)
                    + TransmissionTests.Data(a, 8, 8, true)
                    + TransmissionTests.Data(b, 4, 12, false)
                    + Frame.Chunk(true, 0, b.Cookie);
                peer.SendAndShutDown(Mutate(replies, seed));
            });
            RecordedCompletion[] commands;
            using (NbdConnectionPool pool = TransmissionTests.Connect(server))
            {
                RecordedCompletion flush = new();
                commands = [TransmissionTests.Read(pool, 0, 16), TransmissionTests.Read(pool, 64, 16), flush];
                Assert.Equal(Errno.None, pool.Flush(flush));
                Assert.All(commands, command => _ = command.Outcome);
            }

            Assert.All(commands, command => Assert.Equal(1, command.Calls));
            Assert.All(commands[..2], read => Assert.Equal(read.Outcome == Errno.None, read.Data is not null));
        }
    }

    private static byte[] Mutate(string hex, int seed)
    {
        Random random = new(seed);
        byte[] bytes = Convert.FromHexString(hex);
        for (int changes = random.Next(1, 4); changes > 0; changes--)
        {
            bytes[random.Next(bytes.Length)] = random.Next(3) switch
            {
                0 => 0,
                1 => 0xff,
                _ => (byte)random.Next(256),
            };
        }

        return bytes;
    }
}
