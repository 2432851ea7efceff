using Nbd.Protocol;

namespace Nbd;

/// <summary>An export as it was opened and announced to one client.</summary>
internal sealed class ServedExport
{
    /// <exception cref="InvalidOperationException">The backend announces something impossible.</exception>
    public ServedExport(string name, NbdBackend backend, NbdServerOptions options)
    {
        Name = name;
        Backend = backend;
        long size = backend.SizeBytes;
        BlockSizes = new(
            (uint)backend.MinimumBlockBytes,
            (uint)Math.Max(backend.PreferredBlockBytes, backend.MinimumBlockBytes),
            (uint)options.MaximumPayloadBytes);
        if (size < 0 || !BlockSizes.IsValid)
        {
            throw new InvalidOperationException(
                $"the backend announces {size} bytes in blocks of {backend.MinimumBlockBytes} to {backend.PreferredBlockBytes}");
        }

        // What is left behind the last whole block cannot be asked for.
        SizeBytes = size - (size % BlockSizes.MinimumBytes);
        Capabilities = backend.Capabilities | (options.ReadOnly ? NbdBackendCapabilities.ReadOnly : 0);
        Description = backend.Description;
        IsParallel = backend.IsParallel;
    }

    public string Name { get; }

    public NbdBackend Backend { get; }

    public long SizeBytes { get; }

    public NbdBlockSizeInfo BlockSizes { get; }

    public NbdBackendCapabilities Capabilities { get; }

    public string? Description { get; }

    public bool IsParallel { get; }

    public bool IsReadOnly => Has(NbdBackendCapabilities.ReadOnly);

    public bool Has(NbdBackendCapabilities capability) => (Capabilities & capability) != 0;

    /// <summary>What is announced, in what the client has agreed to.</summary>
    public NbdTransmissionFlags FlagsFor(ReplyStyle style)
    {
        NbdTransmissionFlags flags = NbdTransmissionFlags.HasFlags
            | When(NbdBackendCapabilities.Flush, NbdTransmissionFlags.SendFlush)
            | When(NbdBackendCapabilities.ForceUnitAccess, NbdTransmissionFlags.SendForceUnitAccess)
            | When(NbdBackendCapabilities.Cache, NbdTransmissionFlags.SendCache)
            | When(NbdBackendCapabilities.MultiConn, NbdTransmissionFlags.CanMultiConn)
            | When(NbdBackendCapabilities.Rotational, NbdTransmissionFlags.Rotational);
        flags |= IsReadOnly
            ? NbdTransmissionFlags.ReadOnly
            : When(NbdBackendCapabilities.Trim, NbdTransmissionFlags.SendTrim)
                | When(NbdBackendCapabilities.WriteZeroes, NbdTransmissionFlags.SendWriteZeroes);
        if ((flags & NbdTransmissionFlags.SendWriteZeroes) != 0)
        {
            flags |= When(NbdBackendCapabilities.FastZero, NbdTransmissionFlags.SendFastZero);
        }

        flags |= style == ReplyStyle.Simple ? 0 : NbdTransmissionFlags.SendDontFragment;
        return flags | (style == ReplyStyle.Extended ? NbdTransmissionFlags.BlockStatusPayload : 0);
    }

    private NbdTransmissionFlags When(NbdBackendCapabilities capability, NbdTransmissionFlags flags) =>
        Has(capability) ? flags : 0;
}

/// <summary>How replies look; each is more than the one before.</summary>
internal enum ReplyStyle
{
    /// <summary>Simple replies only.</summary>
    Simple,

    /// <summary>Structured replies.</summary>
    Structured,

    /// <summary>Extended headers in both directions.</summary>
    Extended,
}

/// <summary>What the handshake agreed on.</summary>
/// <param name="Export">What is served.</param>
/// <param name="Style">How replies look.</param>
/// <param name="HasAllocation">Whether BLOCK_STATUS may ask for base:allocation.</param>
internal sealed record NegotiatedExport(ServedExport Export, ReplyStyle Style, bool HasAllocation);
