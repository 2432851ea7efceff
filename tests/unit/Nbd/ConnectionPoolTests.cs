using System.Collections.Concurrent;
using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

public sealed class ConnectionPoolTests
{
    [Fact]
    public void Close_flushes_what_was_written_and_disconnects()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
            FakeRequest flush = peer.ReceiveRequest();
            Assert.Equal(3, flush.Type);
            peer.Send(Frame.SimpleReply(0, flush.Cookie));
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server))
        {
            TransmissionTests.Run(c => pool.WriteZeroes(0, 1, 0, c));
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
    }

    [Fact]
    public void A_flush_does_not_cover_a_write_that_is_in_flight()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest write = peer.ReceiveRequest();
            peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie) + Frame.SimpleReply(0, write.Cookie));
            FakeRequest flush = peer.ReceiveRequest();
            Assert.Equal(3, flush.Type);
            peer.Send(Frame.SimpleReply(0, flush.Cookie));
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server))
        {
            RecordedCompletion write = new();
            Assert.Equal(Errno.None, pool.WriteZeroes(0, 1, 0, write));
            TransmissionTests.Run(pool.Flush);
            Assert.Equal(Errno.None, write.Outcome);
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
    }

    [Fact]
    public void Close_does_not_flush_twice_what_a_flush_covered()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
            peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server))
        {
            TransmissionTests.Run(c => pool.WriteZeroes(0, 1, 0, c));
            TransmissionTests.Run(pool.Flush);
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
    }

    [Fact]
    public void A_flush_covers_all_writes_also_while_a_read_is_in_flight()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
            FakeRequest read = peer.ReceiveRequest();
            peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
            peer.Send(TransmissionTests.Data(read, 0, read.Length, true));
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server))
        {
            TransmissionTests.Run(c => pool.WriteZeroes(0, 1, 0, c));
            Assert.Equal(Errno.None, pool.Read(0, 512, 0, new RecordedCompletion()));
            TransmissionTests.Run(pool.Flush);
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
    }

    [Fact]
    public void Close_flushes_without_waiting_for_reads()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
            FakeRequest read = peer.ReceiveRequest();
            FakeRequest flush = peer.ReceiveRequest();
            Assert.Equal(3, flush.Type);
            peer.Send(Frame.SimpleReply(0, flush.Cookie));
            peer.Send(TransmissionTests.Data(read, 0, read.Length, true));
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server))
        {
            TransmissionTests.Run(c => pool.WriteZeroes(0, 1, 0, c));
            Assert.Equal(Errno.None, pool.Read(0, 512, 0, new RecordedCompletion()));
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
    }

    [Fact]
    public void Close_reports_a_flush_that_fails()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
            peer.Send(Frame.SimpleReply(28, peer.ReceiveRequest().Cookie));
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server))
        {
            TransmissionTests.Run(c => pool.Trim(0, 1, 0, c));
            Assert.Equal(Errno.ENOSPC, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
    }

    [Fact]
    public void All_connections_are_used_when_the_server_allows_several()
    {
        int[] counts = new int[3];
        using FakeNbdServer server = new([.. Enumerable.Range(0, 3).Select(i => new Action<FakePeer>(peer =>
        {
            peer.Handshake(flags: 0x0101);
            for (FakeRequest request = peer.ReceiveRequest(); request.Type != 2; request = peer.ReceiveRequest())
            {
                counts[i]++;
                peer.Send(TransmissionTests.Data(request, 0, request.Length, true));
            }
        }))]);
        using (NbdConnectionPool pool = TransmissionTests.Connect(server, connections: 3))
        {
            Assert.Equal(3, pool.ConnectionCount);
            for (int i = 0; i < 12; i++)
            {
                TransmissionTests.AssertPattern(TransmissionTests.Read(pool, (ulong)i, 100), (ulong)i, 100);
            }

            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
        Assert.Equal([4, 4, 4], counts);
    }

    [Fact]
    public void A_server_without_multi_conn_gets_one_connection()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(flags: 1);
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server, connections: 8))
        {
            Assert.Equal(1, pool.ConnectionCount);
            pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit);
        }

        server.Finish();
    }

    [Fact]
    public void Further_connections_must_find_the_same_export()
    {
        using FakeNbdServer server = new(
            peer =>
            {
                peer.Handshake(size: 4096, flags: 0x0101);
                peer.Drain();
            },
            peer =>
            {
                peer.Handshake(size: 8192, flags: 0x0101);
                peer.Drain();
            });

        NbdException exception = Assert.Throws<NbdException>(() => TransmissionTests.Connect(server, connections: 2));

        Assert.Contains("another export", exception.Message);
        server.Finish();
    }

    [Fact]
    public void When_one_connection_ends_the_others_go_on()
    {
        using FakeNbdServer server = new(
            peer => peer.Handshake(flags: 0x0101),
            peer =>
            {
                peer.Handshake(flags: 0x0101);
                for (FakeRequest request = peer.ReceiveRequest(); request.Type != 2; request = peer.ReceiveRequest())
                {
                    peer.Send(TransmissionTests.Data(request, 0, request.Length, true));
                }
            });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server, 2))
        {
            int failed = 0;
            for (int i = 0; i < 20; i++)
            {
                failed += TransmissionTests.Read(pool, 0, 512).Outcome == Errno.None ? 0 : 1;
            }

            // Only a command that was sent before the end was noticed.
            Assert.InRange(failed, 0, 1);
            pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit);
        }

        server.Finish();
    }

    [Fact]
    public void After_a_connection_was_lost_with_changes_the_next_flush_fails_once()
    {
        using FakeNbdServer server = new(
            peer =>
            {
                peer.Handshake(flags: 0x0145);
                peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
            },
            peer =>
            {
                peer.Handshake(flags: 0x0145);
                peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
                FakeRequest flush = peer.ReceiveRequest();
                Assert.Equal(3, flush.Type);
                peer.Send(Frame.SimpleReply(0, flush.Cookie));
                peer.Drain();
            });
        using NbdConnectionPool pool = TransmissionTests.Connect(server, 2);
        using BlockingCollection<NbdException> lost = [];
        pool.ConnectionLost = lost.Add;
        for (int i = 0; i < 2; i++)
        {
            RecordedCompletion zero = new();
            Assert.Equal(Errno.None, pool.WriteZeroes(0, 512, NbdCommandFlags.None, zero));
            Assert.Equal(Errno.None, zero.Outcome);
        }

        Assert.True(lost.TryTake(out _, FakeNbdServer.TimeLimit));
        Assert.Equal(Errno.EIO, pool.Flush(new RecordedCompletion()));
        RecordedCompletion flush = new();
        Assert.Equal(Errno.None, pool.Flush(flush));
        Assert.Equal(Errno.None, flush.Outcome);
    }

    [Fact]
    public void More_commands_than_a_connection_holds_are_refused()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Drain();
        });
        using NbdConnectionPool pool = TransmissionTests.Connect(server);
        RecordedCompletion[] held = [.. Enumerable.Range(0, CommandSlotTable.MaximumSlots).Select(_ => new RecordedCompletion())];
        foreach (RecordedCompletion completion in held)
        {
            Assert.Equal(Errno.None, pool.Trim(0, 1, NbdCommandFlags.None, completion));
        }

        Assert.Equal(Errno.ENOMEM, pool.Trim(0, 1, NbdCommandFlags.None, new RecordedCompletion()));
        pool.Abort(new NbdException("enough", Errno.ECANCELED));
        Assert.All(held, completion => Assert.Equal(Errno.EIO, completion.Outcome));
    }

    [Fact]
    public void Close_says_goodbye_after_a_last_reply_that_is_late()
    {
        int others = 0;
        using ManualResetEventSlim refused = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest read = peer.ReceiveRequest();
            Assert.True(refused.Wait(FakeNbdServer.TimeLimit));
            for (int i = 0; i < others; i++)
            {
                peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
            }

            // No DISC yet.
            Assert.Equal(0, peer.UnreadBytes);
            peer.Send(TransmissionTests.Data(read, 0, read.Length, true));
            peer.ExpectDisconnect();
        });
        using NbdConnectionPool pool = TransmissionTests.Connect(server);
        RecordedCompletion read = TransmissionTests.Read(pool, 0, 512);
        Errno closed = Errno.EINPROGRESS;
        Thread closing = new(() => closed = pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        closing.Start();
        // Once it leaves, it takes no command.
        while (pool.Cache(0, 1, new RecordedCompletion()) == Errno.None)
        {
            others++;
            Thread.Yield();
        }

        refused.Set();

        TransmissionTests.AssertPattern(read, 0, 512);
        Assert.True(closing.Join(FakeNbdServer.TimeLimit));
        Assert.Equal(Errno.None, closed);
        server.Finish();
    }

    [Fact]
    public void Close_never_says_goodbye_before_the_last_reply()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            _ = peer.ReceiveRequest();
            // No DISC, as the reply does not come.
            peer.ExpectEnd();
        });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server))
        {
            RecordedCompletion read = TransmissionTests.Read(pool, 0, 512);
            Assert.Equal(Errno.None, pool.Close(TimeSpan.Zero, TimeSpan.FromMilliseconds(50)));
            Assert.Equal(Errno.EIO, read.Outcome);
        }

        server.Finish();
    }
}
