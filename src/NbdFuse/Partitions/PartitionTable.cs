using Linux;

namespace NbdFuse;

/// <summary>What the partition table of a disk says, at one moment.</summary>
/// <param name="Partitions">In the order of the table; none when there is no table, or a broken one.</param>
/// <param name="Sectors">Where it lies, as first byte and first byte after it: whoever writes there may change it.</param>
/// <param name="Problem">Why a table that is there is not used; null when all is well.</param>
internal sealed record PartitionTable(
    IReadOnlyList<Partition> Partitions, IReadOnlyList<(ulong Start, ulong End)> Sectors, string? Problem)
{
    // Room for either table, and where another may be written to.
    private const ulong FirstSectorsBytes = 34 * 512;

    /// <summary>Reads the table. Whatever is wrong with it is a <see cref="Problem"/>.</summary>
    internal static async Task<PartitionTable> Read(TableSectors sectors)
    {
        sectors.Watch(0, FirstSectorsBytes);
        List<Partition> partitions = [];
        string? problem = null;
        try
        {
            if (sectors.SizeBytes >= MasterBootRecord.SectorBytes)
            {
                byte[] first = await sectors.Read(0, MasterBootRecord.SectorBytes).ConfigureAwait(false);
                if (MasterBootRecord.IsTable(first))
                {
                    partitions = await (MasterBootRecord.IsProtective(first)
                        ? GuidPartitionTable.Read(sectors)
                        : MasterBootRecord.Read(first, sectors)).ConfigureAwait(false);
                }
            }
        }
        catch (Exception exception) when (exception is PartitionTableException or LinuxException)
        {
            problem = exception.Message;
        }

        return new PartitionTable(partitions, sectors.Ranges, problem);
    }
}
