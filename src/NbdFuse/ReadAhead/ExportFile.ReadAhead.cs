namespace NbdFuse;

/// <content>The file's read-ahead.</content>
internal sealed unsafe partial class ExportFile
{
    /// <summary>READs that were answered from blocks so far.</summary>
    internal long ReadsAnsweredAhead => _readAhead?.ReadsAnswered ?? 0;

    /// <summary>
    /// Another client may have changed the export, or a server may have forgotten what was not flushed: what was read
    /// ahead is not used any more.
    /// </summary>
    private void ForgetReadAhead() => _readAhead?.Forget();

    private ReadAhead? CreateReadAhead(BlockMemory memory)
    {
        uint unit = Math.Max(4096, MinimumBlockBytes);
        uint largest = Math.Min((uint)_pool.MaximumReadBytes, BlockMemory.SlotBytes) & ~(unit - 1);
        if (largest == 0)
        {
            return null;
        }

        ReadAheadLimits limits = new()
        {
            EndBytes = _size,
            UnitBytes = unit,
            SmallestBlockBytes = (uint)Math.Min(
                largest, Math.Max(_pool.Export.PreferredBlockBytes, ReadAheadLimits.UsualSmallestBlock)),
            LargestBlockBytes = largest,
            LargestWindowBytes = (uint)(memory.Slots * (long)BlockMemory.SlotBytes / 2),
        };
        return new ReadAhead(
            limits,
            memory,
            _pool.ReadAhead,
            ReadPlainly,
            () => _pool.InFlight,
            TimeProvider.System);
    }
}
