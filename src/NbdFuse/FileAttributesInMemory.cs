using Fuse;

namespace NbdFuse;

/// <summary>
/// Mode, owner and times of a file: what NBD has no place for. They live as long as the mount. Thread-safe.
/// </summary>
internal sealed class FileAttributesInMemory
{
    private const uint TypeBits = 0xf000;

    // Guards all fields but _modified.
    private readonly Lock _gate = new();
    private uint _mode;
    private uint _userId;
    private uint _groupId;
    private DateTime _accessed;
    private DateTime _changed;

    // In ticks; written for each WRITE, so without the lock.
    private long _modified;

    internal FileAttributesInMemory(uint mode, uint userId, uint groupId)
    {
        (_mode, _userId, _groupId) = (mode, userId, groupId);
        _accessed = _changed = DateTime.UtcNow;
        _modified = _changed.Ticks;
    }

    /// <summary>The content changes now.</summary>
    internal void TouchModified() => Volatile.Write(ref _modified, DateTime.UtcNow.Ticks);

    /// <summary>chmod, chown, utimensat. The file's size is not ours.</summary>
    internal void Change(in FuseSetAttrIn attr)
    {
        DateTime now = DateTime.UtcNow;
        lock (_gate)
        {
            if (attr.Valid.HasFlag(FuseSetAttrValid.Mode))
            {
                // Set-user-id bits would have to go at the next write, and mean nothing on a disk image.
                _mode = (_mode & TypeBits) | (attr.Mode & Permissions.Mask);
            }

            _userId = attr.Valid.HasFlag(FuseSetAttrValid.UserId) ? attr.UserId : _userId;
            _groupId = attr.Valid.HasFlag(FuseSetAttrValid.GroupId) ? attr.GroupId : _groupId;
            _accessed = attr.Valid.HasFlag(FuseSetAttrValid.AccessTimeNow) ? now
                : attr.Valid.HasFlag(FuseSetAttrValid.AccessTime) ? Time(attr.AccessTime, attr.AccessTimeNanoseconds)
                : _accessed;
            if (attr.Valid.HasFlag(FuseSetAttrValid.ModifyTimeNow))
            {
                Volatile.Write(ref _modified, now.Ticks);
            }
            else if (attr.Valid.HasFlag(FuseSetAttrValid.ModifyTime))
            {
                Volatile.Write(ref _modified, Time(attr.ModifyTime, attr.ModifyTimeNanoseconds).Ticks);
            }

            _changed = now;
        }
    }

    internal void CopyTo(ref FuseAttr attr)
    {
        DateTime modified = new(Volatile.Read(ref _modified), DateTimeKind.Utc);
        lock (_gate)
        {
            attr.Mode = _mode;
            attr.UserId = _userId;
            attr.GroupId = _groupId;
            (attr.AccessTime, attr.AccessTimeNanoseconds) = Split(_accessed);
            (attr.ModifyTime, attr.ModifyTimeNanoseconds) = Split(modified);
            (attr.ChangeTime, attr.ChangeTimeNanoseconds) = Split(_changed > modified ? _changed : modified);
        }
    }

    private static DateTime Time(ulong seconds, uint nanoseconds)
    {
        // Signed on the wire, and any value can come from utimensat(2); DateTime has the years 1 to 9999.
        long last = (DateTime.MaxValue - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerSecond;
        long first = (DateTime.MinValue - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerSecond;
        return DateTime.UnixEpoch
            .AddTicks(Math.Clamp((long)seconds, first, last) * TimeSpan.TicksPerSecond)
            .AddTicks(nanoseconds / 100);
    }

    private static (ulong Seconds, uint Nanoseconds) Split(DateTime time)
    {
        (long seconds, long ticks) = Math.DivRem((time - DateTime.UnixEpoch).Ticks, TimeSpan.TicksPerSecond);
        return ticks < 0
            ? ((ulong)(seconds - 1), (uint)(ticks + TimeSpan.TicksPerSecond) * 100)
            : ((ulong)seconds, (uint)ticks * 100);
    }
}
