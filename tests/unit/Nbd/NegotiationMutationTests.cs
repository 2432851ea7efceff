using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>
/// Steps of a negotiation in any order, with a server that answers well a few times and then something that is broken: changed
/// bytes, a cut, the answer to another option. Whatever comes, each step ends with a clean error or with what was said, in time
/// and without more memory than a step may take. Runs alone: what is measured is the memory of the whole process.
/// </summary>
[Collection(nameof(NegotiationMutationTests))]
[CollectionDefinition(nameof(NegotiationMutationTests), DisableParallelization = true)]
public sealed class NegotiationMutationTests
{
    private const int Rounds = 400;
    private const string Export = "a";
    private const string Allocation = OptionTests.Allocation;

    // What the answers to one step may take (NbdLimits).
    private const long MostBytes = 64 << 20;

    private static readonly uint[] s_errors = [0x80000001, 0x80000002, 0x80000003, 0x80000005, 0x80000006, 0x80000007, 0x8000000a];

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Any_order_of_steps_and_any_answers_end()
    {
        for (int seed = 0; seed < Rounds; seed++)
        {
            try
            {
                long before = GC.GetTotalAllocatedBytes();
                await Play(seed).WaitAsync(FakeNbdServer.TimeLimit, Token);
                Assert.InRange(GC.GetTotalAllocatedBytes() - before, 0, MostBytes);
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {seed}: {e.Message}", e);
            }
        }
    }

    private static async Task Play(int seed)
    {
        using FakeNbdServer server = new(peer => Serve(peer, new Random(seed)));
        await Negotiate(server, new Random(~seed));
        server.Finish();
    }

    private static async Task Negotiate(FakeNbdServer server, Random random)
    {
        NbdNegotiation negotiation;
        try
        {
            negotiation = await NegotiationTests.ConnectAsync(server);
        }
        catch (NbdException e)
        {
            Check(e);
            return;
        }

        await using (negotiation)
        {
            for (int steps = 0; steps < 12; steps++)
            {
                try
                {
                    if (await TakeStep(negotiation, random.Next(8)))
                    {
                        return;
                    }
                }
                catch (NbdException e)
                {
                    Check(e);
                    Assert.False(e is NbdProtocolException && negotiation.IsOpen, "open after a broken answer");
                }
            }
        }
    }

    /// <returns>Whether it was the last.</returns>
    private static async Task<bool> TakeStep(NbdNegotiation negotiation, int step)
    {
        switch (step)
        {
            case 0:
                Assert.Equal(await negotiation.RequestStructuredRepliesAsync(Token), negotiation.StructuredReplies);
                return false;
            case 1:
                Assert.Equal(await negotiation.RequestExtendedHeadersAsync(Token), negotiation.ExtendedHeaders);
                return false;
            case 2:
                Assert.InRange((await negotiation.ListExportsAsync(Token)).Count, 0, 3);
                return false;
            case 3:
                Assert.InRange((await negotiation.ListMetaContextsAsync(Export, ["base:"], Token)).Count, 0, 2);
                return false;
            case 4 or 5:
                Assert.InRange((await negotiation.SetMetaContextsAsync(Export, [Allocation], Token)).Count, 0, 1);
                return false;
            case 6:
                CheckExport(await negotiation.InfoAsync(Export, Token));
                return false;
            default:
                await using (NbdClient client = await negotiation.GoAsync(Export, Token))
                {
                    CheckExport(client.Export);
                }

                return true;
        }
    }

    private static void Serve(FakePeer peer, Random random)
    {
        int good = random.Next(8);
        if (good == 0)
        {
            peer.SendAndShutDown(MutationTests.Mutate(Frame.Newstyle(), random));
            return;
        }

        peer.Greet();
        while (peer.ReceiveOption() is uint option and not Frame.Abort)
        {
            if (--good == 0)
            {
                peer.SendAndShutDown(Broken(option, random));
                return;
            }

            List<(uint Type, string Data)> replies = Replies(option, random);
            peer.Send(Encode(option, replies));
            if (option == Frame.ExportName || (option == Frame.Go && replies[^1].Type == Frame.Ack))
            {
                break;
            }
        }

        peer.Drain();
    }

    private static byte[] Broken(uint option, Random random)
    {
        List<(uint Type, string Data)> replies = Replies(random.Next(6) == 0 ? (uint)random.Next(1, 12) : option, random);
        if (random.Next(2) == 0)
        {
            // The frame stays whole, so that its data is looked at.
            int which = random.Next(replies.Count);
            replies[which] = (replies[which].Type, BrokenData(replies[which].Data, random));
            return Convert.FromHexString(Encode(option, replies));
        }

        byte[] bytes = MutationTests.Mutate(Encode(option, replies), random);
        return random.Next(3) == 0 ? bytes[..random.Next(bytes.Length)] : bytes;
    }

    private static string BrokenData(string data, Random random)
    {
        int length = data.Length / 2;
        int place = random.Next(Math.Min(length, 8) + 1);
        return random.Next(3) switch
        {
            0 => data[..(2 * place)],
            1 => data[..(2 * place)] + random.Next(256).ToString("x2") + data[(2 * place)..],
            _ => data[..(2 * place)] + random.Next(256).ToString("x2") + data[(2 * Math.Min(place + 1, length))..],
        };
    }

    private static string Encode(uint option, List<(uint Type, string Data)> replies) => option == Frame.ExportName
        ? replies[0].Data
        : string.Concat(replies.Select(reply => Frame.OptionReply(option, reply.Type, reply.Data)));

    /// <summary>What servers answer.</summary>
    private static List<(uint Type, string Data)> Replies(uint option, Random random)
    {
        if (option != Frame.ExportName && random.Next(4) == 0)
        {
            return [(s_errors[random.Next(s_errors.Length)], Frame.Text("no\u0007"))];
        }

        (uint Type, string Data) ack = (Frame.Ack, "");
        return option switch
        {
            Frame.ExportName => [(0, Frame.U64(4096) + Frame.U16(1))],
            Frame.List =>
                [(Frame.Server, Frame.LengthAndText(Export) + Frame.Text("first")), (Frame.Server, Frame.LengthAndText("")), ack],
            Frame.ListMetaContext or Frame.SetMetaContext => [(Frame.MetaContext, Frame.U32(1) + Frame.Text(Allocation)), ack],
            Frame.InfoOption or Frame.Go =>
            [
                (Frame.Info, Frame.U16(3) + Frame.U32(1) + Frame.U32(4096) + Frame.U32(65536)),
                (Frame.Info, Frame.U16(1) + Frame.Text(Export)),
                (Frame.Info, Frame.U16(0) + Frame.U64(4096) + Frame.U16(1)),
                ack,
            ],
            _ => [ack],
        };
    }

    private static void Check(NbdException exception)
    {
        Assert.NotEqual(Errno.ETIMEDOUT, exception.Errno);
        Assert.DoesNotContain(exception.Message, c => char.IsControl(c));
    }

    private static void CheckExport(NbdExport export)
    {
        Assert.InRange(export.SizeBytes, 0, long.MaxValue);
        Assert.InRange(export.MinimumBlockBytes, 1, 65536);
        Assert.InRange(export.MaximumPayloadBytes, 512, 64 * 1024 * 1024);
    }
}
