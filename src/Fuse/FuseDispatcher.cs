using Linux;

namespace Fuse;

/// <summary>
/// Checks a request's lengths and calls the file system's method for it. Thread-safe: it has no state of its own.
/// </summary>
internal sealed unsafe class FuseDispatcher
{
    private const int HeaderBytes = FuseInHeader.SizeBytes;

    private readonly FuseFileSystem _fileSystem;
    private readonly FuseRequestPool _pool;
    private readonly FuseWarnings _warnings;
    private readonly Action<string>? _trace;
    private readonly FuseChannel[] _channels;

    /// <param name="fileSystem">What answers.</param>
    /// <param name="pool">Where an INTERRUPT finds its target.</param>
    /// <param name="warnings">Gets what should not happen.</param>
    /// <param name="trace">Gets a line for each request.</param>
    /// <param name="channels">All channels of the session.</param>
    internal FuseDispatcher(
        FuseFileSystem fileSystem,
        FuseRequestPool pool,
        FuseWarnings warnings,
        Action<string>? trace,
        FuseChannel[] channels)
    {
        _fileSystem = fileSystem;
        _pool = pool;
        _warnings = warnings;
        _trace = trace;
        _channels = channels;
    }

    /// <summary>Handles the request that was read into <paramref name="request"/>.</summary>
    /// <param name="request">Rented, its buffer filled.</param>
    /// <param name="channel">Where it was read.</param>
    /// <param name="length">Bytes read.</param>
    /// <returns>True when the object belongs to the file system now, or came back to the pool already; false when it
    /// is still the caller's.</returns>
    internal bool Dispatch(FuseRequest request, FuseChannel channel, int length)
    {
        if (length < HeaderBytes)
        {
            _warnings.Report("short", $"the kernel sent a request of {length} bytes, less than a header");
            return false;
        }

        FuseInHeader header = *(FuseInHeader*)request.Buffer;
        if (_trace is not null)
        {
            _trace($"request {header.Unique}: {header.Opcode} node {header.NodeId} pid {header.ProcessId}, {length} bytes");
        }

        int bodyLength = length - HeaderBytes - (header.ExtensionLength * 8);
        bool wellFormed = header.Length == length && bodyLength >= FuseBody.MinimumBytes(header.Opcode);
        switch (header.Opcode)
        {
            case FuseOpcode.Forget:
            case FuseOpcode.BatchForget:
                // No reply. Nodes live as long as the mount, so there is nothing to count.
                return false;
            case FuseOpcode.Interrupt:
                if (wellFormed)
                {
                    Interrupt(channel, header.Unique, ((FuseInterruptIn*)(request.Buffer + HeaderBytes))->Unique);
                }

                return false;
            case FuseOpcode.NotifyReply:
                // No reply: it is one, to a RETRIEVE that we never send.
                return false;
            default:
                break;
        }

        FuseBody body = new(request.Buffer + HeaderBytes, Math.Max(bodyLength, 0));
        request.Begin(channel, header, wellFormed ? body.ExpectedDataBytes(header.Opcode) : 0);
        try
        {
            if (!wellFormed || !TryCall(request, body))
            {
                _warnings.Report("malformed", $"the kernel sent a malformed {header.Opcode} of {length} bytes");
                request.ReplyError(Errno.EIO);
            }
        }
#pragma warning disable CA1031 // The one place that turns whatever a file system throws into EIO: nothing may end the daemon.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            request.Abandon(header.Unique);
            _warnings.Report(
                $"threw {header.Opcode} {exception.GetType().Name}",
                $"{header.Opcode} failed, answered EIO: {exception}");
        }

        return true;
    }

    /// <summary>
    /// Answers the target with EINTR at once, so that its caller can be killed whatever the target waits for.
    /// </summary>
    private void Interrupt(FuseChannel channel, ulong unique, ulong target)
    {
        if (_pool.TryInterrupt(target))
        {
            return;
        }

        // The target was answered already, and nobody waits for this; or another worker has read but not published
        // it yet, and the kernel shall ask again. With clones only the channel that the target was read from knows it.
        if (_pool.Replies.SendError(channel, unique, Errno.EAGAIN) == Errno.ENOENT)
        {
            foreach (FuseChannel other in _channels)
            {
                if (other != channel && _pool.Replies.SendError(other, unique, Errno.EAGAIN) != Errno.ENOENT)
                {
                    break;
                }
            }
        }
    }

    /// <returns>False when the body is malformed; the request is unanswered then.</returns>
    private bool TryCall(FuseRequest request, FuseBody body)
    {
        byte* start = body.Start;
        switch (request.Opcode)
        {
            case FuseOpcode.Read:
            {
                FuseReadIn* read = (FuseReadIn*)start;
                if (read->Offset > long.MaxValue || read->Size > request.DataCapacity)
                {
                    return false;
                }

                _fileSystem.Read(request, read->Handle, read->Offset, read->Size);
                return true;
            }

            case FuseOpcode.Write:
            {
                FuseWriteIn* write = (FuseWriteIn*)start;
                if (write->Offset > long.MaxValue || write->Size != body.Length - sizeof(FuseWriteIn))
                {
                    return false;
                }

                _fileSystem.Write(
                    request, write->Handle, write->Offset, start + sizeof(FuseWriteIn), write->Size, write->Flags);
                return true;
            }

            case FuseOpcode.GetAttr:
                _fileSystem.GetAttr(request);
                return true;
            case FuseOpcode.SetAttr:
                _fileSystem.SetAttr(request, *(FuseSetAttrIn*)start);
                return true;
            case FuseOpcode.Lookup:
            {
                bool named = body.TryGetName(0, out ReadOnlySpan<byte> name);
                if (named)
                {
                    _fileSystem.Lookup(request, name);
                }

                return named;
            }

            case FuseOpcode.Open:
                _fileSystem.Open(request, ((FuseOpenIn*)start)->Flags);
                return true;
            case FuseOpcode.Flush:
                _fileSystem.Flush(request, ((FuseFlushIn*)start)->Handle);
                return true;
            case FuseOpcode.Release:
                _fileSystem.Release(request, ((FuseReleaseIn*)start)->Handle);
                return true;
            case FuseOpcode.Fsync:
            {
                FuseFsyncIn* fsync = (FuseFsyncIn*)start;
                _fileSystem.Fsync(request, fsync->Handle, (fsync->FsyncFlags & FuseFsyncIn.DataOnly) != 0);
                return true;
            }

            case FuseOpcode.Fallocate:
            {
                FuseFallocateIn* range = (FuseFallocateIn*)start;
                if (range->Offset > long.MaxValue || range->Length > long.MaxValue)
                {
                    return false;
                }

                _fileSystem.Fallocate(request, range->Handle, range->Mode, range->Offset, range->Length);
                return true;
            }

            case FuseOpcode.Lseek:
            {
                FuseLseekIn* seek = (FuseLseekIn*)start;
                if (seek->Offset > long.MaxValue)
                {
                    return false;
                }

                _fileSystem.Lseek(request, seek->Handle, seek->Offset, seek->Whence);
                return true;
            }

            case FuseOpcode.OpenDir:
                _fileSystem.Opendir(request, ((FuseOpenIn*)start)->Flags);
                return true;
            case FuseOpcode.ReadDir:
            {
                FuseReadIn* read = (FuseReadIn*)start;
                _fileSystem.Readdir(
                    request, read->Handle, read->Offset, Math.Min(read->Size, (uint)request.DataCapacity));
                return true;
            }

            case FuseOpcode.ReleaseDir:
                _fileSystem.Releasedir(request, ((FuseReleaseIn*)start)->Handle);
                return true;
            case FuseOpcode.FsyncDir:
            {
                FuseFsyncIn* fsync = (FuseFsyncIn*)start;
                _fileSystem.Fsyncdir(request, fsync->Handle, (fsync->FsyncFlags & FuseFsyncIn.DataOnly) != 0);
                return true;
            }

            case FuseOpcode.StatFs:
                _fileSystem.Statfs(request);
                return true;
            case FuseOpcode.Access:
                _fileSystem.Access(request, ((FuseAccessIn*)start)->Mask);
                return true;
            default:
                return TryCallRare(request, body);
        }
    }

    private bool TryCallRare(FuseRequest request, FuseBody body)
    {
        byte* start = body.Start;
        ReadOnlySpan<byte> name;
        switch (request.Opcode)
        {
            case FuseOpcode.GetXattr:
                if (!body.TryGetName(sizeof(FuseGetXattrIn), out name))
                {
                    return false;
                }

                _fileSystem.GetXattr(request, name, ((FuseGetXattrIn*)start)->Size);
                return true;
            case FuseOpcode.ListXattr:
                _fileSystem.ListXattr(request, ((FuseGetXattrIn*)start)->Size);
                return true;
            case FuseOpcode.RemoveXattr:
                if (!body.TryGetName(0, out name))
                {
                    return false;
                }

                _fileSystem.RemoveXattr(request, name);
                return true;
            case FuseOpcode.SetXattr:
            {
                FuseSetXattrIn* set = (FuseSetXattrIn*)start;
                if (!body.TryGetName(sizeof(FuseSetXattrIn), out name))
                {
                    return false;
                }

                int valueOffset = sizeof(FuseSetXattrIn) + name.Length + 1;
                if (set->Size != body.Length - valueOffset)
                {
                    return false;
                }

                _fileSystem.SetXattr(
                    request, name, new ReadOnlySpan<byte>(start + valueOffset, (int)set->Size), set->Flags);
                return true;
            }

            case FuseOpcode.Ioctl:
            {
                FuseIoctlIn* ioctl = (FuseIoctlIn*)start;
                if (ioctl->InputSize != body.Length - sizeof(FuseIoctlIn))
                {
                    return false;
                }

                _fileSystem.Ioctl(
                    request, *ioctl, new ReadOnlySpan<byte>(start + sizeof(FuseIoctlIn), (int)ioctl->InputSize));
                return true;
            }

            case FuseOpcode.CopyFileRange:
            case FuseOpcode.CopyFileRange64:
                _fileSystem.CopyFileRange(request, *(FuseCopyFileRangeIn*)start);
                return true;
            case FuseOpcode.ReadLink:
                _fileSystem.ReadLink(request);
                return true;
            case FuseOpcode.Create:
            case FuseOpcode.MkNod:
            case FuseOpcode.MkDir:
            case FuseOpcode.SymLink:
            case FuseOpcode.Link:
            case FuseOpcode.Unlink:
            case FuseOpcode.RmDir:
            case FuseOpcode.Rename:
            case FuseOpcode.Rename2:
            case FuseOpcode.TmpFile:
                _fileSystem.ChangeNames(request);
                return true;
            case FuseOpcode.Poll:
                _fileSystem.Poll(request);
                return true;
            case FuseOpcode.Destroy:
                request.ReplyEmpty();
                return true;
            case FuseOpcode.Init:
                // Only the session's start may see it.
                request.ReplyError(Errno.EIO);
                return true;
            case FuseOpcode.StatX:
            case FuseOpcode.BMap:
            case FuseOpcode.SyncFs:
            case FuseOpcode.GetLock:
            case FuseOpcode.SetLock:
            case FuseOpcode.SetLockWait:
            case FuseOpcode.ReadDirPlus:
            case FuseOpcode.SetupMapping:
            case FuseOpcode.RemoveMapping:
            default:
                // Deliberate for the known ones: STATX falls back to GETATTR; the others are never negotiated or
                // only sent to block device file systems. What this library does not know is the kernel's to work around.
                request.ReplyError(Errno.ENOSYS);
                return true;
        }
    }
}
