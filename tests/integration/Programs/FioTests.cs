namespace IntegrationTests.Programs;

/// <summary>fio writes with several engines at once, each to its own part of the disk, and verifies what it wrote.</summary>
public sealed class FioTests : ProgramTest
{
    private static readonly string[] s_engines = ["mmap", "psync", "libaio", "io_uring"];

    [Theory]
    [MemberData(nameof(Servers))]
    public void Four_engines_verify_what_they_wrote(string server)
    {
        DiskPair disks = Disks(server, 64 << 20);
        List<string> arguments =
        [
            "--minimal", $"--filename={disks.Disk}", "--size=16M", "--rw=randwrite", "--bs=4k", "--bsrange=4k-64k",
            "--bs_unaligned=0", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--end_fsync=1", "--iodepth=16",
            "--allow_file_create=0",
        ];
        for (int i = 0; i < s_engines.Length; i++)
        {
            // O_DIRECT for the asynchronous ones, the kernel's cache for the others.
            arguments.AddRange(
                [$"--name={s_engines[i]}", $"--ioengine={s_engines[i]}", $"--offset={i * 16}M", $"--direct={(i < 2 ? 0 : 1)}"]);
        }

        Tool.Run("fio", [.. arguments]);

        Tool.Run("cp", disks.Disk, disks.Local);
        disks.CheckEqualToTheEnd();
    }
}
