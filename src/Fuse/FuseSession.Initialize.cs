using System.Globalization;
using Linux;

namespace Fuse;

public sealed partial class FuseSession
{
    private const string MaxPagesLimitPath = "/proc/sys/fs/fuse/max_pages_limit";
    private const uint DefaultMaxPagesLimit = 256;

    /// <summary>
    /// Reads the kernel's INIT and answers it. Requests of programs wait in the kernel until then.
    /// </summary>
    /// <exception cref="FuseException">There was no INIT in time, or the kernel's protocol is too old.</exception>
    /// <exception cref="LinuxException">The device cannot be read or written: ENODEV when it was unmounted.</exception>
    public unsafe void Initialize()
    {
        if (_pool is not null)
        {
            throw new InvalidOperationException("the session is initialized already");
        }

        _layout = PlanUring();
        using NativeBuffer buffer = new(FuseAbi.MinimumReadBytes);
        Deadline deadline = Deadline.After(_options.InitializeTimeout);
        while (true)
        {
            int length = ReadInit(buffer, deadline);
            FuseInHeader header = *(FuseInHeader*)buffer.Start;
            FuseInitIn offer = default;
            int offerBytes = Math.Min(length - FuseInHeader.SizeBytes, sizeof(FuseInitIn));
            if (header.Length != length || header.Opcode != FuseOpcode.Init || offerBytes < FuseInitIn.OldSizeBytes)
            {
                throw new FuseException(
                    $"the first request from {FuseDevice.Path} is not an INIT but {header.Opcode} of {length} bytes");
            }

            System.Buffer.MemoryCopy(buffer.Start + FuseInHeader.SizeBytes, &offer, sizeof(FuseInitIn), offerBytes);
            _options.Trace?.Invoke(
                $"init: kernel {offer.Major}.{offer.Minor} flags 0x{offer.Flags:x} 0x{offer.Flags2:x}");
            FuseInit init = Negotiate(offer, offerBytes);
            if (init.Error != Errno.None)
            {
                _ = _replies.SendError(_device, header.Unique, init.Error);
                throw new FuseException(
                    $"the kernel speaks FUSE {offer.Major}.{offer.Minor}, "
                    + $"{FuseAbi.Major}.{FuseAbi.OldestMinor} is needed");
            }

            // The memory first: with rings, the kernel lets nobody in from the answer on until they are there.
            if (init.Limits is not null && !TryMakePool(init.Limits))
            {
                init = Negotiate(offer, offerBytes);
                _ = TryMakePool(init.Limits!);
            }

            Answer(header.Unique, init);
            if (init.Limits is not null)
            {
                _options.Trace?.Invoke($"init: agreed {init.Limits}");
                _limits = init.Limits;
                return;
            }
        }
    }

    private FuseInit Negotiate(in FuseInitIn offer, int offerBytes) => FuseInit.Negotiate(
        offer, offerBytes, _options, _mount.MaxReadBytes, ReadMaxPagesLimit(), _layout);

    private static uint ReadMaxPagesLimit()
    {
        try
        {
            // Linux 6.13 has it.
            return uint.Parse(File.ReadAllText(MaxPagesLimitPath), CultureInfo.InvariantCulture);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or FormatException)
        {
            return DefaultMaxPagesLimit;
        }
    }

    private unsafe int ReadInit(NativeBuffer buffer, Deadline deadline)
    {
        while (true)
        {
            if (!_device.Poll(deadline))
            {
                throw new FuseException(
                    $"the kernel sent no INIT within {_options.InitializeTimeout.TotalSeconds:0.#} s after the mount");
            }

            Errno error = _device.Read(buffer.Start, buffer.Length, out int length);
            if (error == Errno.None)
            {
                return length >= FuseInHeader.SizeBytes
                    ? length
                    : throw new FuseException($"the kernel sent a request of {length} bytes, less than a header");
            }

            if (error is not (Errno.EINTR or Errno.EAGAIN or Errno.ENOENT))
            {
                throw new LinuxException($"read INIT from {FuseDevice.Path}", error);
            }
        }
    }

    private unsafe void Answer(ulong unique, in FuseInit init)
    {
        uint length = FuseOutHeader.SizeBytes + init.AnswerBytes;
        byte* frame = stackalloc byte[FuseOutHeader.SizeBytes + sizeof(FuseInitOut)];
        *(FuseOutHeader*)frame = new FuseOutHeader { Length = length, Unique = unique };
        *(FuseInitOut*)(frame + FuseOutHeader.SizeBytes) = init.Answer;
        Errno error = _replies.Send(_device, frame, length, FuseOpcode.Init);
        if (error != Errno.None)
        {
            throw new LinuxException($"answer INIT on {FuseDevice.Path}", error);
        }
    }
}
