using Linux;
using Nbd.Protocol;

namespace Nbd;

// What is wrong with a request, before the backend sees it (proto.md, "Request types" and "Error values").
internal sealed partial class RequestLoop
{
    private const int StatusPayloadBytes = sizeof(ulong) + sizeof(uint);

    private Errno Check(in NbdRequestHeader header, out string text)
    {
        NbdCommandFlags known = (_flags & NbdTransmissionFlags.SendForceUnitAccess) != 0
            ? NbdCommandFlags.ForceUnitAccess
            : NbdCommandFlags.None;
        NbdTransmissionFlags needed = NbdTransmissionFlags.None;
        bool changes = false;
        switch (header.Type)
        {
            case NbdCommandType.Read:
                known |= _replies.IsSimple ? 0 : NbdCommandFlags.DontFragment;
                break;
            case NbdCommandType.Write:
                known |= _isExtended ? NbdCommandFlags.PayloadLength : 0;
                changes = true;
                break;
            case NbdCommandType.Flush:
                needed = NbdTransmissionFlags.SendFlush;
                break;
            case NbdCommandType.Trim:
                needed = NbdTransmissionFlags.SendTrim;
                changes = true;
                break;
            case NbdCommandType.Cache:
                needed = NbdTransmissionFlags.SendCache;
                break;
            case NbdCommandType.WriteZeroes:
                known |= NbdCommandFlags.NoHole;
                known |= (_flags & NbdTransmissionFlags.SendFastZero) != 0 ? NbdCommandFlags.FastZero : 0;
                needed = NbdTransmissionFlags.SendWriteZeroes;
                changes = true;
                break;
            case NbdCommandType.BlockStatus:
                known |= NbdCommandFlags.RequestOne | (_isExtended ? NbdCommandFlags.PayloadLength : 0);
                break;
            default:
                text = $"unknown command {(ushort)header.Type}";
                return Errno.EINVAL;
        }

        if (_isStopping())
        {
            text = "the server is about to end";
            return Errno.ESHUTDOWN;
        }

        if ((header.Flags & ~known) != 0)
        {
            text = $"flags 0x{(ushort)header.Flags:x} do not go with this command";
            return Errno.EINVAL;
        }

        if (changes && _export.IsReadOnly)
        {
            text = "the export is read-only";
            return Errno.EPERM;
        }

        if ((needed & ~_flags) != 0)
        {
            text = "the export does not offer this command";
            return Errno.EINVAL;
        }

        return CheckArguments(header, out text);
    }

    private Errno CheckArguments(in NbdRequestHeader header, out string text)
    {
        text = "";
        bool hasPayload = (header.Flags & NbdCommandFlags.PayloadLength) != 0;
        switch (header.Type)
        {
            case NbdCommandType.Flush when header.Offset != 0 || header.Length != 0:
                text = "a flush has no range";
                return Errno.EINVAL;
            case NbdCommandType.Flush:
                return Errno.None;
            case NbdCommandType.BlockStatus when !_hasAllocation:
                text = "no meta context was chosen";
                return Errno.EINVAL;
            case NbdCommandType.BlockStatus when hasPayload:
                bool fits = header.Length is >= StatusPayloadBytes and <= MaximumStatusPayloadBytes;
                text = fits ? "" : "the payload of a block status request has an impossible length";
                return fits ? Errno.None : Errno.EINVAL;
            case NbdCommandType.Write when _isExtended && !hasPayload:
                text = "a write has no payload";
                return Errno.EINVAL;
            default:
                return CheckRange(header, out text);
        }
    }

    private Errno CheckRange(in NbdRequestHeader header, out string text)
    {
        text = "";
        ulong size = (ulong)_export.SizeBytes;
        if (header.Length == 0)
        {
            text = "the range is empty";
            return Errno.EINVAL;
        }

        if (header.Offset > size || header.Length > size - header.Offset)
        {
            text = $"{header.Length} bytes at {header.Offset} end beyond the export, which has {size} bytes";
            return header.Type is NbdCommandType.Write or NbdCommandType.WriteZeroes ? Errno.ENOSPC : Errno.EINVAL;
        }

        if (((header.Offset | header.Length) & (_export.BlockSizes.MinimumBytes - 1)) != 0)
        {
            text = $"{header.Length} bytes at {header.Offset} are not whole blocks of {_export.BlockSizes.MinimumBytes}";
            return Errno.EINVAL;
        }

        if (header.Type is NbdCommandType.Read or NbdCommandType.Write
            && header.Length > (ulong)_options.MaximumPayloadBytes)
        {
            text = $"{header.Length} bytes are more than the {_options.MaximumPayloadBytes} of a request";
            return header.Type == NbdCommandType.Read && !_replies.IsSimple ? Errno.EOVERFLOW : Errno.EINVAL;
        }

        return Errno.None;
    }
}
