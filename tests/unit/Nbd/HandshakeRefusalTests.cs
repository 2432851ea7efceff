using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>What a server refuses, and what a broken or hostile server does, before the transmission phase.</summary>
public sealed class HandshakeRefusalTests
{
    private const ulong Size = 1024 * 1024;

    /// <summary>Error reply to GO, what the message must hold, errno.</summary>
    public static TheoryData<uint, string, Errno> Refusals => new()
    {
        { 0x80000002, "fake: the server's policy forbids export 'x' (the server says: no?way)", Errno.EACCES },
        { 0x80000003, "invalid", Errno.EINVAL },
        { 0x80000004, "platform", Errno.EOPNOTSUPP },
        { 0x80000005, "requires TLS for export 'x' (the server says: no?way); connect with TLS", Errno.EOPNOTSUPP },
        { 0x80000007, "fake: the server is shutting down", Errno.ESHUTDOWN },
        { 0x80000008, "block sizes", Errno.EPROTO },
        { 0x80000009, "too long", Errno.ENAMETOOLONG },
        { 0x80001234, "unknown error 0x80001234", Errno.EIO },
    };

    /// <summary>What the server answers to GO (or sends instead), and what the message must hold.</summary>
    public static TheoryData<string, string> Violations => new()
    {
        { "0003e889045565aa" + Frame.U32(7) + Frame.U32(1) + Frame.U32(0), "starts with 0x0003e889045565aa" },
        { Frame.OptionReply(8, Frame.Ack), "answered option 8 when NBD_OPT_GO was sent" },
        { Frame.OptionReply(7, Frame.Ack), "without NBD_INFO_EXPORT" },
        { Frame.ExportInfo(Size, 1) + Frame.OptionReply(7, Frame.Ack, "00"), "NBD_REP_ACK to NBD_OPT_GO has 1 bytes" },
        { Frame.OptionReply(7, Frame.Server, "00000000"), "reply type 2" },
        { Frame.OptionReply(7, 4, "0000000041"), "reply type 4" },
        { Frame.OptionReply(7, 0), "reply type 0" },
        { Frame.OptionReply(7, Frame.Info), "too short for its type" },
        { Frame.OptionReply(7, Frame.Info, "00"), "too short for its type" },
        { Frame.OptionReply(7, Frame.Info, Frame.U16(0)), "type 0 cannot have 2 bytes" },
        { Frame.OptionReply(7, Frame.Info, Frame.U16(0) + Frame.Zeroes(9)), "type 0 cannot have 11 bytes" },
        { Frame.OptionReply(7, Frame.Info, Frame.U16(0) + Frame.Zeroes(11)), "type 0 cannot have 13 bytes" },
        { Frame.OptionReply(7, Frame.Info, Frame.U16(3) + Frame.Zeroes(11)), "type 3 cannot have 13 bytes" },
        { Frame.OptionReply(7, Frame.Info, Frame.U16(3) + Frame.Zeroes(13)), "type 3 cannot have 15 bytes" },
        { Frame.OptionReply(7, Frame.Info, Frame.U16(2) + Frame.Zeroes(4097)), "type 2 cannot have 4099 bytes" },
        { Frame.OptionReplyMagic + Frame.U32(7) + Frame.U32(3) + "ffffffff", "claims 4294967295 bytes" },
        { Frame.OptionReplyMagic + Frame.U32(7) + "80000002" + "ffffffff", "claims 4294967295 bytes" },
        { Frame.ExportInfo(Size, 0), "lack NBD_FLAG_HAS_FLAGS" },
        { Frame.ExportInfo(Size, 0xfffe), "lack NBD_FLAG_HAS_FLAGS" },
    };

    /// <summary>Greetings that no NBD server sends.</summary>
    public static TheoryData<string, string> WrongGreetings => new()
    {
        {
            Frame.Text("HTTP/1.1 400 Bad Request\r\n"),
            "fake is not an NBD server: its first bytes are 0x485454502f312e31 ('HTTP/1.1')"
        },
        { Frame.Zeroes(152), "is not an NBD server" },
        { Frame.Text("\u001b[2J\u0007\r\nno") + Frame.Zeroes(8), "0x1b5b324a070d0a6e ('?[2J???n')" },
        { Frame.InitMagic + Frame.Zeroes(8), "is not an NBD server" },
        { Frame.OptionMagic + Frame.InitMagic, "is not an NBD server" },
        { Frame.Oldstyle(Size, 1, 1), "reserved flags 0x0001" },
        { Frame.Oldstyle(Size, 0, 0), "lack NBD_FLAG_HAS_FLAGS" },
    };

    [Theory]
    [MemberData(nameof(Refusals))]
    public void A_refusal_has_its_own_message_and_ends_with_ABORT(uint reply, string message, Errno errno)
    {
        NbdException exception = Negotiation.Refuse("x", peer =>
        {
            Negotiation.AnswerUpToGo(peer, "x");
            peer.Send(Frame.OptionReply(Frame.Go, reply, Frame.Text("no\u0007way")));
            peer.ExpectAbort();
        });

        Assert.Contains(message, exception.Message);
        Assert.Contains("(the server says: no?way)", exception.Message);
        Assert.Equal(errno, exception.Errno);
        Assert.DoesNotContain('\u0007', exception.Message);
        Assert.Equal(reply == 0x80000005, exception.RequiresTls);
    }

    [Theory]
    [InlineData(0x80000002)]
    [InlineData(0x80000006)]
    public void The_name_of_an_export_is_printable_in_messages(uint reply)
    {
        const string Name = "a\u001b[2J\u0085\u202eb";
        NbdException exception = Negotiation.Refuse(Name, peer =>
        {
            Negotiation.AnswerUpToGo(peer, Name);
            peer.Send(Frame.OptionReply(Frame.Go, reply));
            peer.Drain();
        });

        Assert.Contains("'a?[2J??b'", exception.Message);
        exception = Negotiation.Refuse(Name, peer => peer.Send(Frame.Oldstyle(Size, 0, 1)));
        Assert.Contains("'a?[2J??b'", exception.Message);
    }

    [Fact]
    public void A_long_text_of_the_server_is_cut()
    {
        foreach (string said in new[] { new string('x', 4096), new string('\u00e4', 20_000) })
        {
            NbdException exception = Negotiation.Refuse("x", peer =>
            {
                Negotiation.AnswerUpToGo(peer, "x");
                peer.Send(Frame.OptionReply(Frame.Go, 0x80000002, Frame.Text(said)));
                peer.ExpectAbort();
            });

            Assert.Contains($"(the server says: {said[..300]}...)", exception.Message);
        }
    }

    [Theory]
    [MemberData(nameof(Violations))]
    public void A_malformed_answer_to_GO_ends_the_connection(string answer, string message)
    {
        NbdException exception = Negotiation.Refuse("x", peer =>
        {
            Negotiation.AnswerUpToGo(peer, "x");
            peer.Send(answer);
            peer.Drain();
        });

        Assert.Contains(message, exception.Message);
        Assert.IsType<NbdProtocolException>(exception);
        Assert.Equal(Errno.EPROTO, exception.Errno);
    }

    [Theory]
    [MemberData(nameof(WrongGreetings))]
    public void A_wrong_greeting_is_said_to_be_one(string greeting, string message)
    {
        NbdException exception = Negotiation.Refuse("", peer =>
        {
            peer.Send(greeting);
            peer.ExpectEnd();
        });

        Assert.Contains(message, exception.Message);
        Assert.Equal(Errno.EPROTO, exception.Errno);
    }

    [Fact]
    public void Endless_information_is_cut()
    {
        foreach ((string info, string message) in new[]
        {
            (Frame.OptionReply(Frame.Go, Frame.Info, Frame.U16(99)), "NBD_OPT_GO with more than 1000 replies"),
            (Frame.OptionReply(Frame.Go, Frame.Info, Frame.U16(99) + Frame.Zeroes(1_000_000)), "more than 67108864 bytes"),
        })
        {
            NbdException exception = Negotiation.Refuse("x", peer =>
            {
                Negotiation.AnswerUpToGo(peer, "x");
                peer.SendForEver(info);
            });

            Assert.Contains(message, exception.Message);
            Assert.Equal(Errno.EPROTO, exception.Errno);
        }
    }

    [Theory]
    [InlineData(1ul << 63)]
    [InlineData(ulong.MaxValue - 4095)]
    [InlineData(ulong.MaxValue)]
    public void A_size_above_2_to_the_63_minus_1_is_refused(ulong size)
    {
        NbdException[] exceptions =
        [
            Negotiation.Refuse("x", peer =>
            {
                Negotiation.AnswerUpToGo(peer, "x");
                peer.Send(Frame.ExportInfo(size, 1));
                peer.Drain();
            }),
            Negotiation.Refuse("", peer => peer.Send(Frame.Oldstyle(size, 0, 1))),
            Negotiation.Refuse("", peer =>
            {
                peer.Send(Frame.Newstyle(0));
                peer.Expect(Frame.U32(0) + Frame.Option(Frame.ExportName));
                peer.Send(Frame.U64(size) + Frame.U16(1));
                peer.Drain();
            }),
        ];

        Assert.All(exceptions, exception =>
        {
            Assert.Contains($"a size of {size} bytes", exception.Message);
            Assert.Equal(Errno.EFBIG, exception.Errno);
        });
    }

    [Fact]
    public void A_structured_reply_option_that_is_answered_wrongly_ends_the_connection()
    {
        foreach (string answer in new[]
        {
            Frame.OptionReply(Frame.StructuredReply, Frame.Info, "0000"),
            Frame.OptionReply(Frame.StructuredReply, Frame.Ack, "00"),
            Frame.OptionReply(Frame.Go, Frame.Ack),
        })
        {
            NbdException exception = Negotiation.Refuse("", peer =>
            {
                peer.Send(Frame.Newstyle());
                peer.Expect(Frame.U32(3) + Frame.Option(Frame.StructuredReply));
                peer.Send(answer);
                peer.ExpectEnd();
            });

            Assert.Equal(Errno.EPROTO, exception.Errno);
        }
    }

    [Theory]
    [InlineData("a\0b", Errno.EINVAL)]
    [InlineData(null, Errno.ENAMETOOLONG)]
    public void Names_that_NBD_cannot_carry_are_refused_before_they_are_sent(string? name, Errno errno)
    {
        using SafeFd none = new(-1);

        NbdException exception = Assert.Throws<NbdException>(() => NbdHandshake.Run(
            none, name ?? new string('\u00e9', 2049), "fake", HandshakeTests.Soon(), CancellationToken.None));

        Assert.Equal(errno, exception.Errno);
    }
}
