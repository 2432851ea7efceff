using Tmds.Linux;

namespace IntegrationTests;

/// <summary>
/// O_DSYNC, O_SYNC, RWF_DSYNC and <c>-o sync</c>: when a change has returned, the server has been told to keep it, and has
/// said that it did.
/// </summary>
public abstract class SynchronousWriteTests : IntegrationTest
{
    private const int Offset = 8192;

    // linux/falloc.h; Tmds.LibC lacks ZERO_RANGE.
    private const int PunchHole = 0x3;
    private const int ZeroRange = 0x10;

    // Writes 4096 bytes at Offset in the way that is named second to the file that is named first.
    private const string Script =
        """
        import mmap, os, sys
        how = sys.argv[2].split('+')
        fd = os.open(sys.argv[1], os.O_RDWR | sum(getattr(os, 'O_' + name) for name in how if name != 'RWF'))
        page = mmap.mmap(-1, 4096)
        page[:] = b'\x5a' * 4096
        done = os.pwritev(fd, [page], 8192, os.RWF_DSYNC) if 'RWF' in how else os.pwrite(fd, page, 8192)
        assert done == 4096, done
        commands = open(sys.argv[3]).read()
        print(commands)
        """;

    public static TheoryData<string, string, bool> Writes()
    {
        TheoryData<string, string, bool> writes = [];
        foreach (string mode in new[] { "none", "writethrough", "writeback" })
        {
            foreach (string how in new[] { "DSYNC", "SYNC", "RWF", "DSYNC+DIRECT", "RWF+DIRECT" })
            {
                writes.Add(mode, how, true);
                writes.Add(mode, how, false);
            }
        }

        return writes;
    }

    public static TheoryData<string, bool, bool> Zeroings()
    {
        TheoryData<string, bool, bool> zeroings = [];
        foreach (string mode in new[] { "none", "writethrough", "writeback" })
        {
            zeroings.Add(mode, true, true);
            zeroings.Add(mode, true, false);
            zeroings.Add(mode, false, true);
            zeroings.Add(mode, false, false);
        }

        return zeroings;
    }

    /// <param name="mode">Of the cache.</param>
    /// <param name="how">Names of open flags, without their O_; RWF is a flag of the write.</param>
    /// <param name="hasForceUnitAccess">Whether the server has FUA; else a FLUSH is the only way.</param>
    [Theory]
    [MemberData(nameof(Writes))]
    public void The_data_is_durable_when_the_write_has_returned(string mode, string how, bool hasForceUnitAccess)
    {
        (NbdFuseMount mount, NbdkitLog log) = MountLogged(hasForceUnitAccess, $"--cache={mode}");

        // The log as it is between the write and the close(2), which pushes what is cached.
        NbdkitLog then = new(Folder.FileAt("then.log"));
        File.WriteAllText(then.Path, Tool.Run("python3", "-c", Script, mount.File, how, log.Path));

        CheckDurable(then, "Write", hasForceUnitAccess);
    }

    /// <param name="mode">Of the cache.</param>
    /// <param name="isPunched">With PUNCH_HOLE and O_DSYNC, else with ZERO_RANGE and O_SYNC.</param>
    /// <param name="hasForceUnitAccess">Whether the server has FUA.</param>
    [Theory]
    [MemberData(nameof(Zeroings))]
    public void Zeroes_are_durable_when_fallocate_has_returned(string mode, bool isPunched, bool hasForceUnitAccess)
    {
        (NbdFuseMount mount, NbdkitLog log) = MountLogged(hasForceUnitAccess, $"--cache={mode}");
        using RawFile plain = RawFile.Open(mount.File, LibC.O_RDWR);
        using RawFile durable = RawFile.Open(mount.File, LibC.O_RDWR | (isPunched ? LibC.O_DSYNC : LibC.O_SYNC));
        int how = isPunched ? PunchHole : ZeroRange;

        Assert.Equal(0, plain.Fallocate(how, Offset, 4096));
        Assert.DoesNotContain(log.Commands, command => command.ForceUnitAccess || command.Name == "Flush");

        Assert.Equal(0, durable.Fallocate(how, Offset, 4096));
        CheckDurable(log, "Zero", hasForceUnitAccess);
    }

    [Theory]
    [InlineData("none")]
    [InlineData("writethrough")]
    [InlineData("writeback")]
    public void Whatever_is_changed_in_a_mount_with_sync_is_durable(string mode)
    {
        (NbdFuseMount mount, NbdkitLog log) = MountLogged(hasForceUnitAccess: false, $"--cache={mode}", "-o", "sync");
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);

        Assert.Equal(4096, file.Write(Offset, Data.Random(4096)));
        CheckDurable(log, "Write", hasForceUnitAccess: false);

        Assert.Equal(0, file.Fallocate(PunchHole, Offset, 4096));
        CheckDurable(log, "Zero", hasForceUnitAccess: false);

        Assert.Equal(4096, file.CopyTo(file, 0, Offset, 4096));
        CheckDurable(log, "Write", hasForceUnitAccess: false);
    }

    private static void CheckDurable(NbdkitLog log, string name, bool hasForceUnitAccess)
    {
        IReadOnlyList<LoggedCommand> commands = log.Commands;
        int change = commands.ToList().FindLastIndex(command => command.Name == name && command.Offset == Offset);
        Assert.True(change >= 0 && log.Succeeded(name) > 0, "the server saw no such change");
        Assert.True(
            commands[change].ForceUnitAccess
            || (commands.Skip(change + 1).Any(command => command.Name == "Flush") && log.Succeeded("Flush") > 0),
            "neither FUA nor a flush");
        Assert.True(hasForceUnitAccess || commands.All(command => !command.ForceUnitAccess), "FUA where there is none");
    }

    private (NbdFuseMount Mount, NbdkitLog Log) MountLogged(bool hasForceUnitAccess, params string[] options)
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        string[] disk = hasForceUnitAccess
            ? ["memory", "1M"]
            :
            [
                "eval", "get_size=echo 1M", "pread=head -c $3 /dev/zero", "pwrite=cat >/dev/null", "can_write=exit 0",
                "can_flush=exit 0", "flush=exit 0", "can_fua=echo none", "can_zero=echo native", "zero=exit 0",
            ];
        NbdServer server = Nbdkit(["--filter=log", .. disk, $"logfile={log.Path}"]);
        return (Mount(new MountRequest { Options = options, Source = [server.Uri] }), log);
    }
}

public sealed class SynchronousWriteOverDeviceTests : SynchronousWriteTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class SynchronousWriteOverUringTests : SynchronousWriteTests
{
    private protected override string Transport => Transports.Uring;
}
