using System.Buffers.Binary;
using Fuse;
using global::Nbd;
using Linux;
using NbdFuse;
using Tmds.Linux;
using UnitTests.FuseTests;

namespace UnitTests.NbdFuseTests;

/// <summary>A command for a block that the test has to answer.</summary>
internal sealed unsafe class BlockCommand(ulong offset, byte* destination, uint length, NbdCompletion completion)
{
    public ulong Offset => offset;

    public uint Length => length;

    public ulong End => offset + length;

    /// <summary>Answers with the data of a generation of the disk.</summary>
    public void Complete(byte generation) => Complete(ReadAheadRig.Disk(generation, offset, length));

    public void Complete(byte[] data)
    {
        data.CopyTo(new Span<byte>(destination, (int)length));
        completion.OnCompleted(Errno.None, destination);
    }

    public void Fail(Errno error) => completion.OnCompleted(error, null);
}

/// <summary>A read-ahead between a kernel and a server that the test plays both.</summary>
internal sealed unsafe class ReadAheadRig : IDisposable
{
    public const uint Page = 4096;
    public const uint ReadBytes = 64 << 10;
    public const uint MiB = 1 << 20;

    private readonly FileSystem _files;
    private readonly FakeKernel _kernel;
    private ulong _unique = 2;

    public ReadAheadRig(
        ulong sizeBytes = 1UL << 40, int slots = 64, uint largestBlock = MiB, bool sharesDataBuffers = false)
    {
        Memory = new BlockMemory(slots * (long)BlockMemory.SlotBytes);
        ReadAheadLimits limits = new()
        {
            EndBytes = sizeBytes,
            UnitBytes = Page,
            SmallestBlockBytes = Math.Min(ReadAheadLimits.UsualSmallestBlock, largestBlock),
            LargestBlockBytes = largestBlock,
            LargestWindowBytes = (uint)slots * MiB / 2,
        };
        Ahead = new ReadAhead(
            limits,
            Memory,
            Take,
            (request, offset, length) => Plain.Enqueue((request, offset, length)),
            () => Commands.Count + Plain.Count,
            Time);
        _files = new FileSystem(this);
        _kernel = new FakeKernel(_files, bound: 2048, (int)MiB, sharesDataBuffers);
    }

    public FakeTime Time { get; } = new();

    public BlockMemory Memory { get; }

    public ReadAhead Ahead { get; }

    /// <summary>Block commands that are not answered yet, oldest first.</summary>
    public List<BlockCommand> Commands { get; } = [];

    /// <summary>READs that go to the server themselves.</summary>
    public Queue<(FuseRequest Request, ulong Offset, uint Length)> Plain { get; } = new();

    /// <summary>What commands are refused with.</summary>
    public Errno Refusal { get; set; }

    public int CommandsSoFar { get; private set; }

    /// <summary>The unique that the next READ will have.</summary>
    public ulong NextUnique => _unique + 2;

    /// <summary>Requests that the file system is not done with.</summary>
    public int Taken => _kernel.Pool.Taken;

    /// <summary>What a generation of the disk holds: each page says where it is and of which generation.</summary>
    public static byte[] Disk(byte generation, ulong offset, uint length)
    {
        byte[] data = new byte[length];
        for (uint i = 0; i < length; i++)
        {
            ulong page = (offset + i) / Page;
            data[i] = (byte)((page * 7) + (page >> 8) + generation + ((offset + i) % Page == 0 ? 1u : 0u));
        }

        return data;
    }

    /// <summary>Whether READs come from a program that opened the file with O_DIRECT.</summary>
    public bool IsDirect { get; set; }

    /// <summary>Sends a READ.</summary>
    /// <returns>Its unique.</returns>
    public ulong Read(ulong offset, uint length = ReadBytes)
    {
        ulong unique = _unique += 2;
        byte[] body = new byte[40];
        BinaryPrimitives.WriteUInt64LittleEndian(body.AsSpan(8), offset);
        BinaryPrimitives.WriteUInt32LittleEndian(body.AsSpan(16), length);
        BinaryPrimitives.WriteInt32LittleEndian(body.AsSpan(32), IsDirect ? LibC.O_DIRECT : 0);
        _kernel.Send(FakeKernel.Request(FuseOpcode.Read, unique, Convert.ToHexString(body)));
        return unique;
    }

    public void Interrupt(ulong unique) => _kernel.Send(FakeKernel.Interrupt(unique));

    /// <summary>The reply that came first: whose it is, its error, its data. It must be there.</summary>
    public (ulong Unique, Errno Error, byte[] Data) TakeReply()
    {
        Assert.True(_kernel.Channel.Replies.TryDequeue(out byte[]? reply), "no reply came");
        Assert.Equal((uint)reply.Length, BinaryPrimitives.ReadUInt32LittleEndian(reply));
        return (
            BinaryPrimitives.ReadUInt64LittleEndian(reply.AsSpan(8)),
            (Errno)(-BinaryPrimitives.ReadInt32LittleEndian(reply.AsSpan(4))),
            reply[16..]);
    }

    /// <summary>The data of the reply that came first, if any; it must be a good one.</summary>
    public bool TryTakeReply(out ulong unique, out byte[] data)
    {
        (unique, data) = (0, []);
        if (_kernel.Channel.Replies.IsEmpty)
        {
            return false;
        }

        (unique, Errno error, data) = TakeReply();
        Assert.Equal(Errno.None, error);
        return true;
    }

    public void AssertNoReply() => Assert.Empty(_kernel.Channel.Replies);

    /// <summary>The next reply is a good one, with the disk's data.</summary>
    public void AssertReply(ulong unique, byte generation, ulong offset, uint length = ReadBytes)
    {
        (ulong gotUnique, Errno error, byte[] data) = TakeReply();
        Assert.Equal(unique, gotUnique);
        Assert.Equal(Errno.None, error);
        Assert.True(Disk(generation, offset, length).AsSpan().SequenceEqual(data), $"wrong data in the READ at {offset}");
    }

    /// <summary>Answers the READs that went to the server themselves; their replies are taken out.</summary>
    public void AnswerPlain(byte generation = 0)
    {
        while (Plain.TryDequeue(out (FuseRequest Request, ulong Offset, uint Length) read))
        {
            ulong unique = read.Request.Unique;
            read.Request.ReplyBytes(Disk(generation, read.Offset, read.Length));
            AssertReply(unique, generation, read.Offset, read.Length);
        }
    }

    /// <summary>Answers the first in the file of all commands in flight: a block's, or a READ that went to the server itself.</summary>
    public void AnswerFirst()
    {
        if (Plain.TryPeek(out (FuseRequest Request, ulong Offset, uint Length) read)
            && Commands.All(command => read.Offset < command.Offset))
        {
            _ = Plain.Dequeue();
            read.Request.ReplyBytes(Disk(0, read.Offset, read.Length));
        }
        else
        {
            TakeCommand().Complete(0);
        }
    }

    /// <summary>Takes the reply to a READ that went to the server itself or was answered from a block.</summary>
    public void AnswerPlainOrTake()
    {
        if (Plain.Count > 0)
        {
            AnswerPlain();
        }
        else
        {
            _ = TakeReply();
        }
    }

    /// <summary>Answers all block commands.</summary>
    public void CompleteAll(byte generation = 0)
    {
        while (Commands.Count > 0)
        {
            TakeCommand().Complete(generation);
        }
    }

    public BlockCommand TakeCommand()
    {
        BlockCommand command = Commands[0];
        Commands.RemoveAt(0);
        return command;
    }

    /// <summary>Reads from the front until the read-ahead has begun.</summary>
    /// <returns>Where the next READ is to start: the first block does, too.</returns>
    public ulong BeginStream(ulong offset = 0, uint length = ReadBytes)
    {
        int before = CommandsSoFar;
        for (int i = 0; i < 3; i++)
        {
            _ = Read(offset, length);
            AnswerPlain();
            offset += length;
        }

        Assert.True(CommandsSoFar > before, "nothing is read ahead");
        return offset;
    }

    public void Dispose()
    {
        // Whatever a test leaves open ends as when connections are lost.
        Refusal = Errno.EIO;
        while (Commands.Count > 0)
        {
            TakeCommand().Fail(Errno.EIO);
        }

        while (Plain.TryDequeue(out (FuseRequest Request, ulong, uint) read))
        {
            read.Request.ReplyError(Errno.EIO);
        }

        Assert.Equal(0, Taken);
        Assert.Equal(0, Ahead.UnawaitedCommands);
        _kernel.Dispose();
        Ahead.Dispose();
    }

    private Errno Take(ulong offset, byte* destination, uint length, NbdCompletion completion)
    {
        if (Refusal != Errno.None)
        {
            return Refusal;
        }

        CommandsSoFar++;
        Commands.Add(new BlockCommand(offset, destination, length, completion));
        return Errno.None;
    }

    private sealed class FileSystem(ReadAheadRig rig) : FuseFileSystem
    {
        protected internal override void GetAttr(FuseRequest request) => request.ReplyAttr(default);

        protected internal override void Read(FuseRequest request, ulong handle, ulong offset, uint size)
        {
            if (!rig.Ahead.TryRead(request, offset, size))
            {
                rig.Plain.Enqueue((request, offset, size));
            }
        }
    }
}
