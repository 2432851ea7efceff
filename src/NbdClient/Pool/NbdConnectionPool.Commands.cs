using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <content>The commands but FLUSH, which is about all the others.</content>
public sealed unsafe partial class NbdConnectionPool
{
    /// <summary>Sends a READ. The completion gets all <paramref name="length"/> bytes or an error.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes, 1 to <see cref="MaximumReadBytes"/>.</param>
    /// <param name="flags">DF or none.</param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>
    /// None: accepted. EINVAL: not whole blocks, or too long. EIO: every connection is lost. ENOMEM: too many commands
    /// in flight.
    /// </returns>
    public Errno Read(ulong offset, uint length, NbdCommandFlags flags, NbdCompletion completion) =>
        Submit(NbdCommandType.Read, flags, offset, length, null, completion);

    /// <summary>Sends a READ whose data is received straight to where it belongs.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="destination">
    /// Memory of <paramref name="length"/> bytes: written to at any time, and must not move, until the completion,
    /// also when that reports an error. The completion gets it as its data.
    /// </param>
    /// <param name="length">Bytes, 1 to <see cref="MaximumReadBytes"/>.</param>
    /// <param name="flags">DF or none.</param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>As for the overload without a destination.</returns>
    public Errno Read(
        ulong offset, byte* destination, uint length, NbdCommandFlags flags, NbdCompletion completion) =>
        Submit(NbdCommandType.Read, flags, offset, length, destination, completion);

    /// <summary>
    /// Sends a READ of data that nobody waits for yet: as the overload of Read with a destination, but if it is large and
    /// the caller is a ring's thread, another ring receives it.
    /// </summary>
    /// <param name="offset">First byte.</param>
    /// <param name="destination">Memory of <paramref name="length"/> bytes, the command's until the completion.</param>
    /// <param name="length">Bytes, 1 to <see cref="MaximumReadBytes"/>.</param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>As for <see cref="Read(ulong, uint, NbdCommandFlags, NbdCompletion)"/>.</returns>
    public Errno ReadAhead(ulong offset, byte* destination, uint length, NbdCompletion completion) =>
        IsSendable(NbdCommandType.Read, offset, length)
            ? Send(NbdCommandType.Read, NbdCommandFlags.None, offset, length, destination, completion, isAwaited: false)
            : Errno.EINVAL;

    /// <summary>Sends a WRITE.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="payload">The data: must stay as it is, and not move, until the completion.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="flags">FUA or none.</param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>As for <see cref="Read(ulong, uint, NbdCommandFlags, NbdCompletion)"/>.</returns>
    public Errno Write(ulong offset, byte* payload, uint length, NbdCommandFlags flags, NbdCompletion completion)
    {
        return SubmitChange(NbdCommandType.Write, flags, offset, length, payload, completion);
    }

    /// <summary>Sends a WRITE_ZEROES: afterwards the range reads as zeroes.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">
    /// Bytes, at least 1; at most 2^32-1 unless the export has <see cref="NbdExport.ExtendedHeaders"/>.
    /// </param>
    /// <param name="flags">FUA, NO_HOLE, FAST_ZERO.</param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>
    /// As for <see cref="Read(ulong, uint, NbdCommandFlags, NbdCompletion)"/>; EINVAL: the length does not fit into a
    /// request.
    /// </returns>
    public Errno WriteZeroes(ulong offset, ulong length, NbdCommandFlags flags, NbdCompletion completion) =>
        SubmitChange(NbdCommandType.WriteZeroes, flags, offset, length, null, completion);

    /// <summary>Sends a TRIM: afterwards nothing is known about the content of the range.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">
    /// Bytes, at least 1; at most 2^32-1 unless the export has <see cref="NbdExport.ExtendedHeaders"/>.
    /// </param>
    /// <param name="flags">FUA or none.</param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>
    /// As for <see cref="Read(ulong, uint, NbdCommandFlags, NbdCompletion)"/>; EINVAL: the length does not fit into a
    /// request.
    /// </returns>
    public Errno Trim(ulong offset, ulong length, NbdCommandFlags flags, NbdCompletion completion) =>
        SubmitChange(NbdCommandType.Trim, flags, offset, length, null, completion);

    /// <summary>Sends a CACHE: a hint that the range will be read.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">
    /// Bytes, at least 1; at most 2^32-1 unless the export has <see cref="NbdExport.ExtendedHeaders"/>.
    /// </param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>
    /// As for <see cref="Read(ulong, uint, NbdCommandFlags, NbdCompletion)"/>; EINVAL: the length does not fit into a
    /// request.
    /// </returns>
    public Errno Cache(ulong offset, ulong length, NbdCompletion completion) =>
        Submit(NbdCommandType.Cache, NbdCommandFlags.None, offset, length, null, completion);

    /// <summary>
    /// Sends a BLOCK_STATUS: asks for the extents of each of the export's <see cref="NbdExport.MetaContexts"/>, or of
    /// those that <see cref="NbdBlockStatusCompletion.Contexts"/> names.
    /// </summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">
    /// Bytes, at least 1; at most 2^32-1 unless the export has <see cref="NbdExport.ExtendedHeaders"/>. The answer may
    /// be shorter or longer.
    /// </param>
    /// <param name="flags">REQ_ONE (one extent of each context, not longer than the range) or none.</param>
    /// <param name="completion">Called if the result is None, else never.</param>
    /// <returns>
    /// As for <see cref="WriteZeroes"/>; EINVAL also: a context that is not there; EOPNOTSUPP: the export has none.
    /// </returns>
    public Errno BlockStatus(
        ulong offset, ulong length, NbdCommandFlags flags, NbdBlockStatusCompletion completion)
    {
        int contexts = Export.MetaContexts.Count;
        if (contexts == 0)
        {
            return Errno.EOPNOTSUPP;
        }

        bool areKnown = contexts == NbdClientOptions.MaximumMetaContexts || completion.Contexts >> contexts == 0;
        return areKnown
            ? Submit(NbdCommandType.BlockStatus, flags, offset, length, null, completion)
            : Errno.EINVAL;
    }
}
