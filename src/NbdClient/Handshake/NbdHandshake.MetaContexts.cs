using System.Text;
using Linux;
using Nbd.Protocol;

namespace Nbd;

// The options about meta contexts.
internal sealed partial class NbdHandshake
{
    private static readonly SortedList<string, uint> s_noContexts = [];

    // The meta contexts that the server selected, with their ids, and the export that it selected them for.
    private readonly SortedList<string, uint> _contexts = new(StringComparer.Ordinal);
    private string _contextsOf = "";

    /// <summary>The meta contexts that GO enters with: those of another export count for nothing.</summary>
    private SortedList<string, uint> Contexts => _contextsOf == _exportName ? _contexts : s_noContexts;

    /// <summary>The meta contexts of the export that match a query, in the server's order, each once.</summary>
    /// <param name="queries">None: all.</param>
    internal IReadOnlyList<string> QueryMetaContexts(IReadOnlyList<string> queries)
    {
        RequireOptions("tell about meta contexts");
        NegotiateReplies();
        if (!_structuredReplies)
        {
            throw new NbdException(
                $"{_peer}: the server does not agree to structured replies, without which there are no meta contexts",
                Errno.EOPNOTSUPP);
        }

        return AskForMetaContexts(queries);
    }

    /// <exception cref="NbdException">The server refused: unlike when connecting, the answer is all that is wanted.</exception>
    private IReadOnlyList<string> AskForMetaContexts(IReadOnlyList<string> queries)
    {
        List<(uint Id, string Name)> contexts =
            ExchangeMetaContexts(NbdOption.ListMetaContext, EncodeQueries(queries), out OptionError? error);
        RequireNone(error);
        return [.. contexts.Select(context => context.Name).Distinct()];
    }

    private void RequireNone(OptionError? error)
    {
        if (error is { } refusal)
        {
            throw Refusal(refusal, $"the meta contexts of {ExportInWords()}");
        }
    }

    /// <summary>
    /// Chooses the meta contexts of the connection. They are tied to the export's name, and gone after STARTTLS: this
    /// comes between STARTTLS and GO, for the name that GO has. What the server does not have is not chosen.
    /// </summary>
    private void SelectMetaContexts()
    {
        _contexts.Clear();
        if (_structuredReplies && _options.MetaContexts.Count > 0)
        {
            // Whatever the reason for a refusal, one can do without.
            _ = SetMetaContexts(EncodeQueries(_options.MetaContexts));
        }
    }

    /// <summary>Replaces the meta contexts: also when it fails (proto.md, "NBD_OPT_SET_META_CONTEXT").</summary>
    private OptionError? SetMetaContexts(IReadOnlyList<byte[]> queries)
    {
        _contexts.Clear();
        _contextsOf = _exportName;
        List<(uint Id, string Name)> selected =
            ExchangeMetaContexts(NbdOption.SetMetaContext, queries, out OptionError? error);
        foreach ((uint id, string name) in selected)
        {
            if (_contexts.ContainsValue(id) || !_contexts.TryAdd(name, id)
                || _contexts.Count > NbdClientOptions.MaximumMetaContexts)
            {
                throw Violation(
                    $"it selected the meta context '{PrintableText.From(name)}' with id {id} twice, or more than "
                    + $"{NbdClientOptions.MaximumMetaContexts} of them");
            }
        }

        return error;
    }

    /// <summary>All meta contexts that the export has; none if the server does not tell.</summary>
    private MetaContextNames ListMetaContexts() => new(
        ExchangeMetaContexts(NbdOption.ListMetaContext, [], out _)
            .Select(context => context.Name).Distinct().Order(StringComparer.Ordinal));

    /// <returns>None with an error: what was told before it does not count.</returns>
    private List<(uint Id, string Name)> ExchangeMetaContexts(
        NbdOption option, IReadOnlyList<byte[]> queries, out OptionError? error)
    {
        byte[] request = new byte[NbdOptionRequest.MetaContextBytes(_exportNameUtf8, queries)];
        NbdOptionRequest.EncodeMetaContext(request, option, _exportNameUtf8, queries);
        SendOption(option, request);
        error = null;
        List<(uint Id, string Name)> contexts = [];
        for (int replies = 0; replies < MaximumReplies; replies++)
        {
            NbdOptionReply reply = ReceiveReply(option);
            if (reply.IsError)
            {
                error = ReceiveError(reply);
                return [];
            }

            if (reply.Type != NbdOptionReplyType.MetaContext)
            {
                RequireAck(reply);
                return contexts;
            }

            if (reply.Length > _replyData.Length)
            {
                throw Violation($"an NBD_REP_META_CONTEXT cannot have {reply.Length} bytes");
            }

            Span<byte> data = _replyData.AsSpan(0, (int)reply.Length);
            _channel.Receive(data);
            if (!NbdMetaContext.TryDecode(data, out NbdMetaContext context))
            {
                throw Violation($"an NBD_REP_META_CONTEXT cannot have {reply.Length} bytes");
            }

            contexts.Add((context.Id, Encoding.UTF8.GetString(context.Name)));
        }

        throw Violation($"it answered {SpecificationName(option)} with more than {MaximumReplies} replies");
    }

    private static List<byte[]> EncodeQueries(IReadOnlyList<string> names)
    {
        List<byte[]> queries = [.. names.Distinct().Select(Encoding.UTF8.GetBytes)];
        string? wrong = names.FirstOrDefault(name => name.IndexOf(':', StringComparison.Ordinal) < 1
            || name.Contains('\0', StringComparison.Ordinal)
            || Encoding.UTF8.GetByteCount(name) > NbdLimits.MaximumStringBytes);
        if (wrong is not null)
        {
            throw new NbdException(
                $"'{PrintableText.From(wrong)}' is not the name of a meta context, such as base:allocation, nor a query, such as "
                + "base: alone",
                Errno.EINVAL);
        }

        return queries.Count <= NbdClientOptions.MaximumMetaContexts
            ? queries
            : throw new NbdException(
                $"{queries.Count} meta contexts were asked for; at most {NbdClientOptions.MaximumMetaContexts} can be",
                Errno.EINVAL);
    }
}
