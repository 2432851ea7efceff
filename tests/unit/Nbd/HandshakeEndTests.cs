using System.Diagnostics;
using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>Handshakes that end too early: the server leaves or says nothing, or the caller has had enough.</summary>
public sealed class HandshakeEndTests
{
    private const ulong Size = 1024 * 1024;

    [Fact]
    public void The_end_of_the_stream_is_reported_wherever_it_comes()
    {
        string conversation = Frame.Newstyle()
            + Frame.OptionReply(Frame.StructuredReply, Frame.Ack)
            + Frame.ExportInfo(Size, 1)
            + Frame.OptionReply(Frame.Go, Frame.Ack);
        for (int length = 0; length < conversation.Length / 2; length++)
        {
            NbdException exception = Negotiation.Refuse("", peer => peer.Send(conversation[..(2 * length)]), finish: false);

            Assert.Contains("fake: the server closed the connection while we were", exception.Message);
            Assert.Equal(Errno.ECONNRESET, exception.Errno);
        }
    }

    [Fact]
    public void A_silent_server_costs_no_more_than_the_time_limit()
    {
        foreach (string said in new[] { "", Frame.InitMagic, Frame.Newstyle() })
        {
            using ManualResetEventSlim isSilent = new();
            using FakeNbdServer server = new(peer =>
            {
                peer.Send(said);
                isSilent.Set();
                peer.Drain();
            });
            using (SafeFd socket = SocketConnector.Connect(server.Endpoint, HandshakeTests.Soon(), CancellationToken.None))
            {
                // Before that the time limit would race with the server.
                Assert.True(isSilent.Wait(FakeNbdServer.TimeLimit, TestContext.Current.CancellationToken));

                NbdException exception = Assert.ThrowsAny<NbdException>(() => NbdHandshake.Run(
                    socket, "", "fake", Deadline.After(TimeSpan.FromMilliseconds(50)), CancellationToken.None));

                Assert.Contains("did not answer within the time limit while we were waiting for", exception.Message);
                Assert.Equal(Errno.ETIMEDOUT, exception.Errno);
            }

            server.Finish();
        }
    }

    [Fact]
    public void Cancellation_ends_the_handshake_at_once()
    {
        using CancellationTokenSource cancellation = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Send(Frame.InitMagic);
            cancellation.Cancel();
            peer.Drain();
        });
        using (SafeFd socket = SocketConnector.Connect(server.Endpoint, HandshakeTests.Soon(), CancellationToken.None))
        {
            long start = Stopwatch.GetTimestamp();

            Assert.Throws<OperationCanceledException>(() =>
                NbdHandshake.Run(socket, "", "fake", HandshakeTests.Soon(), cancellation.Token));
            Assert.True(Stopwatch.GetElapsedTime(start) < FakeNbdServer.TimeLimit);
        }

        server.Finish();
    }
}
