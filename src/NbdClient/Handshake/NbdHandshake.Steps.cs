using Linux;
using Nbd.Protocol;

namespace Nbd;

// The handshake as steps, which the caller chooses: each is one option and its answer, within a time limit of its own.
internal sealed partial class NbdHandshake
{
    /// <summary>Whether there are options: not with an oldstyle server, nor with one that is not fixed newstyle.</summary>
    internal bool TakesOptions => _isFixedNewstyle;

    /// <summary>Whether another step is possible: nothing that was sent waits for its answer.</summary>
    internal bool IsAnswered => _isAnswered;

    /// <summary>
    /// The server said that it is about to end, so that we must leave (proto.md, "Termination of the session during option
    /// haggling").
    /// </summary>
    internal bool IsShuttingDown { get; private set; }

    /// <summary>Whether replies come in chunks: structured ones, or extended ones.</summary>
    internal bool StructuredReplies => _structuredReplies;

    internal bool ExtendedHeaders => _extendedHeaders;

    /// <summary>The greeting, and TLS if it is required: nothing may be sent before that.</summary>
    /// <param name="channel">Used from here on until <see cref="Leave"/> or <see cref="Go"/>.</param>
    /// <param name="peer">Begins the messages of exceptions.</param>
    /// <param name="options">For <see cref="NbdClientOptions.FullInfo"/>; the rest is what the steps are about.</param>
    /// <param name="tls">For TLS; null: none.</param>
    /// <exception cref="NbdException">As for <see cref="Run"/>; the connection was left.</exception>
    internal static NbdHandshake Begin(
        HandshakeChannel channel, string peer, NbdClientOptions options, TlsCredentials? tls)
    {
        NbdHandshake handshake = new(channel, "", peer, options, tls);
        bool begun = false;
        try
        {
            handshake.Greet();
            if (handshake.RequiresTls)
            {
                handshake.StartTls();
            }

            begun = true;
            return handshake;
        }
        finally
        {
            if (!begun)
            {
                handshake.Leave();
            }
        }
    }

    /// <summary>Sets the limits of the next step.</summary>
    internal void BeginStep(Deadline deadline, CancellationToken cancellationToken) =>
        _channel.BeginStep(deadline, cancellationToken);

    internal bool AgreeToStructuredReplies() =>
        _structuredReplies = _structuredReplies || (_isFixedNewstyle && Agree(NbdOption.StructuredReply));

    internal bool AgreeToExtendedHeaders()
    {
        if (!_extendedHeaders && _isFixedNewstyle && Agree(NbdOption.ExtendedHeaders))
        {
            _extendedHeaders = _structuredReplies = true;
        }

        return _extendedHeaders;
    }

    internal IReadOnlyList<string> ListMetaContexts(string exportName, IReadOnlyList<string> queries)
    {
        RequireOptions("tell about meta contexts");
        NameExport(exportName);
        return AskForMetaContexts(queries);
    }

    /// <returns>Those that were selected, sorted.</returns>
    internal IReadOnlyList<string> SetMetaContexts(string exportName, IReadOnlyList<string> queries)
    {
        RequireOptions("select meta contexts");
        if (!_structuredReplies)
        {
            throw new NbdException(
                $"{_peer}: meta contexts can be selected only after structured replies or extended headers were agreed on",
                Errno.EINVAL);
        }

        NameExport(exportName);
        RequireNone(SetMetaContexts(EncodeQueries(queries)));
        return new MetaContextNames(_contexts.Keys);
    }

    internal NbdExport Info(string exportName)
    {
        NameExport(exportName);
        if (_oldstyle is { } info)
        {
            RequireNoName();
            return MakeExport(info);
        }

        RequireOptions("tell about an export");
        return ExchangeInfo(NbdOption.Info, out OptionError error) ?? throw Refusal(error, ExportInWords());
    }

    internal NegotiatedConnection Go(string exportName)
    {
        NameExport(exportName);
        return Enter(option =>
        {
            NbdExport? export = ExchangeInfo(option, out OptionError error);
            return export is not null || LacksGo(option, error) ? export : throw Refusal(error, ExportInWords());
        });
    }
}
