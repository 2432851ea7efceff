namespace IntegrationTests;

/// <summary>
/// O_DSYNC, O_SYNC and RWF_DSYNC: when the write has returned, the server has been told to keep it, and has said that it
/// did.
/// </summary>
public abstract class SynchronousWriteTests : IntegrationTest
{
    private const int Offset = 8192;

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

    /// <param name="mode">Of the cache.</param>
    /// <param name="how">Names of open flags, without their O_; RWF is a flag of the write.</param>
    /// <param name="hasForceUnitAccess">Whether the server has FUA; else a FLUSH is the only way.</param>
    [Theory]
    [MemberData(nameof(Writes))]
    public void The_data_is_durable_when_the_write_has_returned(string mode, string how, bool hasForceUnitAccess)
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        string[] disk = hasForceUnitAccess
            ? ["memory", "1M"]
            :
            [
                "eval", "get_size=echo 1M", "pread=head -c $3 /dev/zero", "pwrite=cat >/dev/null", "can_write=exit 0",
                "can_flush=exit 0", "flush=exit 0", "can_fua=echo none",
            ];
        NbdServer server = Nbdkit(["--filter=log", .. disk, $"logfile={log.Path}"]);
        NbdFuseMount mount = Mount(new MountRequest { Options = [$"--cache={mode}"], Source = [server.Uri] });

        // The log as it is between the write and the close(2), which pushes what is cached.
        NbdkitLog then = new(Folder.FileAt("then.log"));
        File.WriteAllText(then.Path, Tool.Run("python3", "-c", Script, mount.File, how, log.Path));

        IReadOnlyList<LoggedCommand> commands = then.Commands;
        int write = commands.ToList().FindLastIndex(command => command is { Name: "Write", Offset: Offset });
        Assert.True(write >= 0 && then.Succeeded("Write") > 0, "the server saw no such write");
        Assert.True(
            commands[write].ForceUnitAccess
            || (commands.Skip(write + 1).Any(command => command.Name == "Flush") && then.Succeeded("Flush") > 0),
            "neither FUA nor a flush");
        Assert.True(hasForceUnitAccess || commands.All(command => !command.ForceUnitAccess), "FUA where there is none");
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
