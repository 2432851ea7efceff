using Linux;
using Tmds.Linux;

namespace Exerciser;

/// <content>The operations.</content>
internal sealed unsafe partial class Worker
{
    private Model Model => _bench.Model;

    private void Write(DiskFile file, string what) => Locked(Pick(), what, range =>
    {
        Fill(range.Length);
        int inside = range.Within(Model.SizeBytes);
        PrepareEnd(range);
        long expected = inside > 0 ? inside : -(long)Errno.ENOSPC;
        long count = file.Write(_buffer.Start, range.Length, range.Offset);
        // To a file that it caches the kernel takes no short answer for a direct write: it is ENOSPC, although it was written.
        bool isCutDirectWrite =
            file == _files.Direct && inside > 0 && inside < range.Length && count == -(long)Errno.ENOSPC;
        if (isCutDirectWrite)
        {
            // After an error it does not drop what others read into its cache meanwhile, partly from before the write.
            count = file.Write(_buffer.Start, inside, range.Offset);
        }

        Expect(expected, count, what, range);

        Model.Write(Math.Min(range.Offset, Model.SizeBytes), new(_buffer.Start, inside));
        MendEnd(range);
        if (file == _files.Durable)
        {
            _bench.CheckSynced(range, what);
        }
        else
        {
            _bench.CheckWritten(range, what);
        }
    });

    private void Read(DiskFile file, string what) => Locked(Pick(), what, range =>
    {
        int inside = range.Within(Model.SizeBytes);
        Expect(inside, file.Read(_buffer.Start, range.Length, range.Offset), what, range);
        if (inside > 0)
        {
            Model.Check(what, range.Offset, new(_buffer.Start, inside));
        }
    });

    /// <summary>One read after the other of the same place on, which is what makes all below us read ahead.</summary>
    private void ReadNext()
    {
        if (_streamPosition >= Model.SizeBytes || _random.Next(64) == 0)
        {
            _streamPosition = _random.NextInt64(Model.SizeBytes);
        }

        int length = Math.Min(16384, Model.SizeBytes - (int)_streamPosition);
        Locked(new(_streamPosition, Math.Min(length, _bench.Settings.MaxLength)), "read on", range =>
        {
            Expect(range.Length, _files.Buffered.Read(_buffer.Start, range.Length, range.Offset), "read on", range);
            Model.Check("read on", range.Offset, new(_buffer.Start, range.Length));
            _streamPosition = range.End;
        });
    }

    private void ReadMapped() => Locked(Pick(insideOnly: true), "mapped read", range =>
    {
        new ReadOnlySpan<byte>(_bench.Memory + range.Offset, range.Length).CopyTo(new Span<byte>(_buffer.Start, range.Length));
        Model.Check("mapped read", range.Offset, new(_buffer.Start, range.Length));
    });

    private void WriteMapped() => Locked(Pick(insideOnly: true), "mapped write", range =>
    {
        Fill(range.Length);
        Span<byte> data = new(_buffer.Start, range.Length);
        data.CopyTo(new Span<byte>(_bench.Memory + range.Offset, range.Length));
        Model.Write(range.Offset, data);
        Model.MarkUnsynced(range, true);
        if (_random.Next(2) == 0)
        {
            SyncMapped(range);
        }
    });

    private void SyncMapped() => Locked(Pick(insideOnly: true), "msync", SyncMapped);

    private void SyncMapped(ByteRange range)
    {
        long start = range.Offset & ~4095L;
        Expect(0, DiskFile.SyncMapped(_bench.Memory + start, range.End - start), "msync", range);
        Model.MarkUnsynced(range, false);
        _bench.CheckSynced(range, "msync");
    }

    private void Zero(int mode, string what) => Locked(Pick(), what, range =>
    {
        bool fits = range.End <= Model.SizeBytes || (mode & LibC.FALLOC_FL_KEEP_SIZE) != 0;
        Expect(fits ? 0 : -(long)Errno.ENOSPC, _files.Buffered.Allocate(mode, range), what, range);
        if (fits)
        {
            Model.Zero(range);
            _bench.CheckWritten(range, what);
        }
    });

    private void Allocate() => Locked(Pick(), "allocate", range =>
    {
        bool fits = range.End <= Model.SizeBytes;
        Expect(fits ? 0 : -(long)Errno.ENOSPC, _files.Buffered.Allocate(0, range), "allocate", range);
    });

    /// <summary>What is said to be a hole must be zeroes. Only what this thread holds is known to stay as it is.</summary>
    private void Seek() => Locked(Pick(insideOnly: true), "seek", range =>
    {
        long data = _files.Buffered.Seek(range.Offset, FileCalls.SEEK_DATA);
        long hole = _files.Buffered.Seek(range.Offset, FileCalls.SEEK_HOLE);
        if ((data < range.Offset && data != -(long)Errno.ENXIO) || hole < range.Offset || hole > Model.SizeBytes)
        {
            throw new MismatchException($"seek {range}: data at {Text(data)}, hole at {Text(hole)}", range.Offset);
        }

        if ((data == range.Offset) != (hole > range.Offset))
        {
            throw new MismatchException($"seek {range}: both or neither data at {Text(data)} and hole at {Text(hole)}", range.Offset);
        }

        long end = data < 0 ? range.End : Math.Min(data, range.End);
        ByteRange claimed = new(range.Offset, (int)(end - range.Offset));
        if (claimed.Length > 0 && Model.At(claimed).IndexOfAnyExcept((byte)0) is int first and >= 0)
        {
            throw new MismatchException(
                $"seek {range}: a hole is claimed up to {Text(data)}, but there is data at 0x{range.Offset + first:x}",
                range.Offset + first);
        }
    });

    private void Sync() => Locked(Pick(insideOnly: true), "sync", range =>
    {
        DiskFile file = _random.Next(3) switch { 0 => _files.Buffered, 1 => _files.Durable, _ => _files.Direct };
        Expect(0, file.Sync(dataOnly: _random.Next(2) == 0), "sync", range);
        Model.MarkUnsynced(range, false);
        _bench.CheckSynced(range, "sync");
    });

    private void Forget() => Locked(Pick(insideOnly: true), "forget", range => _files.Buffered.Forget(range));

    private void Copy()
    {
        ByteRange from = Pick(insideOnly: true);
        ByteRange to = Pick(insideOnly: true) with { Length = from.Length };
        to = to with { Offset = Math.Min(to.Offset, Model.SizeBytes - to.Length) };
        // EINVAL is what overlapping ranges get.
        if (from.Offset < to.End && to.Offset < from.End)
        {
            return;
        }

        _bench.Locks.Take(from, to);
        try
        {
            _bench.Log.Add(_thread, from, "copy from");
            _bench.Log.Add(_thread, to, "copy to");
            for (int done = 0; done < from.Length;)
            {
                long count = _files.Buffered.CopyTo(_files.Buffered, from.Offset + done, to.Offset + done, from.Length - done);
                if (count <= 0)
                {
                    throw new MismatchException($"copy {from} to {to}: result {Text(count)}", to.Offset);
                }

                done += (int)count;
            }

            Model.Write(to.Offset, Model.At(from));
            _bench.CheckWritten(to, "copy");
        }
        finally
        {
            _bench.Locks.Give(from, to);
        }
    }

    /// <summary>The size is fixed: to set the same one is all that succeeds, and the content stays.</summary>
    private void Truncate()
    {
        int size = Model.SizeBytes;
        ByteRange all = new(0, size);
        _bench.Log.Add(_thread, all, "truncate");
        Expect(0, _files.Buffered.Truncate(size), "truncate to the same size", all);
        if (_files.Buffered.Truncate(size + 1L) >= 0 || _files.Buffered.Truncate(size - 1L) >= 0)
        {
            throw new MismatchException("truncate to another size succeeded");
        }

        CheckSize();
    }

    private void Append() => Locked(new(Model.SizeBytes - 1, _random.Next(1, 4096)), "append after", range =>
    {
        PrepareEnd(range);
        Expect(-(long)Errno.ENOSPC, _files.Appending.Append(_buffer.Start, range.Length), "append after", range);
        MendEnd(range);
        CheckSize();
    });

    // Linux (6.18, fuse_send_write_pages) takes the page at the end of a write that failed or was cut short for not up
    // to date, but leaves it dirty and mapped: what was or will be stored there is lost at the next read. So it must
    // have been synced before, and is read again after.
    private void PrepareEnd(ByteRange range)
    {
        if (range.End > Model.SizeBytes && !_bench.Without("mmap"))
        {
            SyncMapped(new(Model.SizeBytes - 1, 1));
            if (range.Within(Model.SizeBytes) is int inside and > 0)
            {
                SyncMapped(range with { Length = inside });
            }
        }
    }

    private void MendEnd(ByteRange range)
    {
        if (range.End > Model.SizeBytes && !_bench.Without("mmap"))
        {
            Expect(1, _files.Buffered.Read(_buffer.Start, 1, Model.SizeBytes - 1), "read of the last byte", range);
        }
    }

    /// <summary>Other descriptors, one of them opened with O_TRUNC, which changes nothing.</summary>
    private void Reopen()
    {
        _bench.Log.Add(_thread, new(0, Model.SizeBytes), "reopen with O_TRUNC");
        _files.Dispose();
        _files = new(_bench);
        using (DiskFile.Open(_bench.Settings.File, LibC.O_WRONLY | LibC.O_TRUNC))
        {
            CheckSize();
        }
    }

    private void CheckSize() =>
        Expect(Model.SizeBytes, _files.Buffered.SizeBytes, "size", new(Model.SizeBytes, 0));
}
