using System.Text;
using Linux;
using Nbd.Protocol;

namespace Nbd;

// The options about meta contexts.
internal sealed partial class NbdHandshake
{
    /// <summary>
    /// Chooses the meta contexts of the connection. They are tied to the export's name, and gone after STARTTLS: this
    /// comes between STARTTLS and GO, for the name that GO has. What the server does not have is not chosen.
    /// </summary>
    private void SelectMetaContexts()
    {
        _contexts.Clear();
        if (!_structuredReplies || _options.MetaContexts.Count == 0)
        {
            return;
        }

        ExchangeMetaContexts(NbdOption.SetMetaContext, EncodeQueries(_options.MetaContexts), (id, name) =>
        {
            if (_contexts.ContainsValue(id) || !_contexts.TryAdd(name, id)
                || _contexts.Count > NbdClientOptions.MaximumMetaContexts)
            {
                throw Violation(
                    $"it selected the meta context '{PrintableText.From(name)}' with id {id} twice, or more than "
                    + $"{NbdClientOptions.MaximumMetaContexts} of them");
            }
        });
    }

    /// <summary>All meta contexts that the export has; none if the server does not tell.</summary>
    private MetaContextNames ListMetaContexts()
    {
        SortedSet<string> names = new(StringComparer.Ordinal);
        ExchangeMetaContexts(NbdOption.ListMetaContext, [], (_, name) => names.Add(name));
        return new MetaContextNames(names);
    }

    private void ExchangeMetaContexts(NbdOption option, IReadOnlyList<byte[]> queries, Action<uint, string> take)
    {
        byte[] request = new byte[NbdOptionRequest.MetaContextBytes(_exportNameUtf8, queries)];
        NbdOptionRequest.EncodeMetaContext(request, option, _exportNameUtf8, queries);
        SendOption(option, request);
        List<(uint Id, string Name)> contexts = [];
        for (int replies = 0; replies < MaximumReplies; replies++)
        {
            NbdOptionReply reply = ReceiveReply(option);
            if (reply.IsError)
            {
                // What was told before does not count.
                _channel.Skip(reply.Length);
                _mayHaggle = true;
                return;
            }

            if (reply.Type != NbdOptionReplyType.MetaContext)
            {
                RequireAck(reply);
                _mayHaggle = true;
                contexts.ForEach(context => take(context.Id, context.Name));
                return;
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
                $"'{PrintableText.From(wrong)}' is not the name of a meta context, such as base:allocation",
                Errno.EINVAL);
        }

        return queries.Count <= NbdClientOptions.MaximumMetaContexts
            ? queries
            : throw new NbdException(
                $"{queries.Count} meta contexts were asked for; at most {NbdClientOptions.MaximumMetaContexts} can be",
                Errno.EINVAL);
    }
}
