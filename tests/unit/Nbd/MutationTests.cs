using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>
/// Conversations with a few bytes changed at random (the seeds are fixed): whatever comes, the client ends with a
/// clean error or with what was said, each command completes once, and nothing hangs.
/// </summary>
public sealed class MutationTests
{
    private const int Rounds = 400;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Any_handshake_ends(bool extended)
    {
        string conversation = Frame.Newstyle()
            + (extended
                ? Frame.OptionReply(Frame.ExtendedHeaders, Frame.Ack)
                    + Frame.MetaContextReply(Frame.SetMetaContext, 1, "base:allocation")
                    + Frame.MetaContextReply(Frame.SetMetaContext, 2, "qemu:dirty-bitmap:b")
                    + Frame.OptionReply(Frame.SetMetaContext, Frame.Ack)
                : Frame.OptionReply(Frame.StructuredReply, Frame.Ack))
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
                NbdClientOptions options = new()
                {
                    MetaContexts = extended ? ["base:allocation", "qemu:dirty-bitmap:b"] : [],
                };
                NegotiatedConnection connection = NbdHandshake.Run(
                    socket, "", "fake", HandshakeTests.Soon(), CancellationToken.None, options);
                NbdExport export = connection.Export;
                Assert.Equal(export.MetaContexts.Count, connection.ContextIds.Distinct().Count());
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

    [Fact]
    public void Any_list_ends()
    {
        string Info(string data) => Frame.OptionReply(Frame.InfoOption, Frame.Info, data);
        string conversation = Frame.Newstyle()
            + Frame.OptionReply(Frame.StructuredReply, Frame.Ack)
            + Frame.ServerEntry("a", "first")
            + Frame.OptionReply(Frame.List, Frame.Ack)
            + Info(Frame.U16(1) + Frame.Text("a"))
            + Info(Frame.U16(0) + Frame.U64(4096) + Frame.U16(1))
            + Frame.OptionReply(Frame.InfoOption, Frame.Ack)
            + Frame.MetaContextReply(Frame.ListMetaContext, 0, "base:allocation")
            + Frame.OptionReply(Frame.ListMetaContext, Frame.Ack);
        for (int seed = 0; seed < Rounds; seed++)
        {
            byte[] bytes = Mutate(conversation, seed);
            using FakeNbdServer server = new(peer => peer.SendAndShutDown(bytes));
            try
            {
                IReadOnlyList<NbdListedExport> exports = ServerQuestion.Ask(
                    server.Endpoint, "", new NbdClientOptions(), h => h.ListExports(true), CancellationToken.None);
                Assert.InRange(exports.Count, 0, 1);
                Assert.All(exports, export => Assert.True(export.Export is null != export.Refusal is null));
            }
            catch (NbdException e)
            {
                Assert.NotEqual(Errno.ETIMEDOUT, e.Errno);
                Assert.DoesNotContain(e.Message, c => char.IsControl(c));
            }
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Any_extents_complete_each_command_once(bool extended)
    {
        string[] contexts = ["base:allocation", "qemu:dirty-bitmap:b"];
        for (int seed = 0; seed < Rounds; seed++)
        {
            using FakeNbdServer server = new(peer =>
            {
                peer.HandshakeWithContexts(extended, contexts);
                (FakeRequest status, FakeRequest read, FakeRequest flush) =
                    (peer.ReceiveRequest(), peer.ReceiveRequest(), peer.ReceiveRequest());
                string replies = Frame.Status(status, false, 2, (10, 1), (20, 0), (4096, 1))
                    + Frame.AnyChunk(
                        read, true, 1, Frame.U64(read.Offset) + Frame.Bytes(TransmissionTests.Pattern(0, 16)))
                    + Frame.Status(status, true, 1, (4096, 3))
                    + Frame.AnyChunk(flush, true, 0);
                peer.SendAndShutDown(Mutate(replies, seed));
            });
            (RecordedStatus status, RecordedCompletion flush) = (new(), new());
            RecordedCompletion read;
            using (NbdConnectionPool pool = BlockStatusTests.Connect(server, contexts))
            {
                Assert.Equal(Errno.None, pool.BlockStatus(0, 4096, NbdCommandFlags.None, status));
                read = TransmissionTests.Read(pool, 0, 16);
                Assert.Equal(Errno.None, pool.Flush(flush));
                Assert.All([status.Outcome, read.Outcome, flush.Outcome], outcome => Assert.True(outcome >= 0));
            }

            Assert.Equal((1, 1, 1), (status.Calls, read.Calls, flush.Calls));
            if (status.Outcome == Errno.None)
            {
                Assert.All(
                    new[] { 0, 1 },
                    context => Assert.True(status.Of(context)[..^1].Sum(extent => (long)extent.Length) < 4096));
            }
        }
    }

    private static byte[] Mutate(string hex, int seed) => Mutate(hex, new Random(seed));

    internal static byte[] Mutate(string hex, Random random)
    {
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
