using System.Text;
using Linux;
using Nbd.Protocol;

namespace Nbd;

// Questions about exports that do not lead into the transmission phase.
internal sealed partial class NbdHandshake
{
    /// <summary>Most exports of a list; more is a server that never ends.</summary>
    internal const int MaximumListedExports = 10_000;

    /// <summary>Most exports named in a message.</summary>
    private const int MaximumNamedExports = 20;

    /// <summary>The exports of the server; with what INFO and LIST_META_CONTEXT tell about each if wanted.</summary>
    internal IReadOnlyList<NbdListedExport> ListExports(bool withDetails)
    {
        if (_oldstyle is { } info)
        {
            return [new NbdListedExport("", "") { Export = withDetails ? MakeExport(info) : null }];
        }

        RequireOptions("list its exports");
        if (withDetails)
        {
            NegotiateReplies();
        }

        List<NbdListedExport> exports = ReceiveList(MaximumListedExports, out bool isCut);
        if (isCut)
        {
            throw new NbdException(
                $"{_peer}: the server lists more than {MaximumListedExports} exports", Errno.EOVERFLOW);
        }

        return withDetails ? exports.ConvertAll(WithDetails) : exports;
    }

    /// <summary>The export that the handshake is about.</summary>
    internal NbdExport DescribeExport()
    {
        if (_oldstyle is { } info)
        {
            RequireNoName();
            return MakeExport(info);
        }

        RequireOptions("tell about an export");
        NegotiateReplies();
        return Describe();
    }

    private NbdListedExport WithDetails(NbdListedExport listed)
    {
        try
        {
            NameExport(listed.Name);
            return listed with { Export = Describe() };
        }
        catch (NbdException e) when (MayHaggle)
        {
            return listed with { Refusal = e };
        }
    }

    private NbdExport Describe()
    {
        // Null only for GO.
        NbdExport export = InfoOrGo(NbdOption.Info)!;
        return _structuredReplies ? export with { MetaContexts = ListMetaContexts() } : export;
    }

    private void RequireOptions(string what)
    {
        if (!_isFixedNewstyle)
        {
            throw new NbdException(
                $"{_peer}: the server does not speak the fixed newstyle protocol, so it cannot {what}",
                Errno.EOPNOTSUPP);
        }
    }

    /// <summary>The names of the exports in words; never fails, since it only makes a message better.</summary>
    private string ListExportsInWords()
    {
        try
        {
            _channel.Shorten(TimeSpan.FromSeconds(2));
            List<NbdListedExport> exports = ReceiveList(MaximumNamedExports, out bool isCut);
            if (exports.Exists(export => export.Name == _exportName))
            {
                return "the server lists it all the same: it may be unable to open it (see its own messages)";
            }

            List<string> names = exports.ConvertAll(
                export => export.Name.Length == 0 ? "the default export" : $"'{PrintableText.From(export.Name)}'");
            return names.Count == 0
                ? "the server has no exports"
                : $"the server has: {string.Join(", ", names)}{(isCut ? ", ..." : "")}";
        }
        catch (NbdException)
        {
            return MayHaggle ? "the server does not list its exports" : "the server did not list its exports";
        }
    }

    /// <param name="maximum">Most exports of the result.</param>
    /// <param name="isCut">
    /// Whether there are more. They stay unread: this connection ends anyway, but no option may follow.
    /// </param>
    private List<NbdListedExport> ReceiveList(int maximum, out bool isCut)
    {
        SendOption(NbdOption.List, _buffer.AsSpan(0, NbdOptionRequest.Encode(_buffer, NbdOption.List)));
        isCut = false;
        List<NbdListedExport> exports = [];
        while (true)
        {
            NbdOptionReply reply = ReceiveReply(NbdOption.List);
            if (reply.IsError)
            {
                throw Refusal(ReceiveError(reply), "the list of its exports");
            }

            if (reply.Type != NbdOptionReplyType.Server)
            {
                RequireAck(reply);
                return exports;
            }

            if (exports.Count == maximum)
            {
                isCut = true;
                return exports;
            }

            // A description that is longer than a string may be is cut.
            Span<byte> data = _replyData.AsSpan(0, (int)Math.Min(reply.Length, (uint)_replyData.Length));
            _channel.Receive(data);
            _channel.Skip(reply.Length - (uint)data.Length);
            if (!NbdServerEntry.TryDecode(data, out NbdServerEntry entry))
            {
                throw Violation($"an NBD_REP_SERVER of {reply.Length} bytes has an impossible name length");
            }

            exports.Add(new NbdListedExport(
                Encoding.UTF8.GetString(entry.Name), PrintableText.From(entry.Description)));
        }
    }
}
