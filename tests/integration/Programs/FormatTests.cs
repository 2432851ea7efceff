namespace IntegrationTests.Programs;

/// <summary>Partition tables and file systems, made by their own programs: the same bytes as in a local file.</summary>
public sealed class FormatTests : ProgramTest
{
    private const string Id = "2d3f2f9c-6a5c-4f0e-9d7d-0f1f5a3f6b11";

    [Theory]
    [InlineData("qcow2", "dos")]
    [InlineData("nbdkit memory", "gpt")]
    [InlineData("nbdkit file", "dos")]
    [InlineData("nbdserve file", "gpt")]
    public void Sfdisk(string server, string label)
    {
        string table = Folder.FileAt("table");
        string id = label == "gpt" ? Id : "0x12345678";
        File.WriteAllText(
            table,
            $"label: {label}\nlabel-id: {id}\nstart=2048, size=20480{(label == "gpt" ? $", uuid={Id}" : "")}\n");
        Make(server, disk => Tool.Run("sh", "-c", $"sfdisk -q {disk} < {table} && sfdisk -V {disk}"));
    }

    [Theory]
    [MemberData(nameof(Servers))]
    public void Mkfs_ext4_and_e2fsck(string server) => Make(server, disk =>
    {
        Tool.Run("env", "E2FSPROGS_FAKE_TIME=1700000000", "mkfs.ext4", "-q", "-F", "-U", Id, "-E", $"hash_seed={Id}", disk);
        Tool.Run("e2fsck", "-f", "-n", disk);
    });

    [Theory]
    [MemberData(nameof(Servers))]
    public void Mkfs_xfs_and_xfs_repair(string server) => Make(
        server,
        disk =>
        {
            Tool.Run("mkfs.xfs", "-q", "-f", "-m", $"uuid={Id}", disk);
            Tool.Run("xfs_repair", "-n", "-f", disk);
        },
        sizeBytes: 320L << 20,
        isSame: false);

    [Theory]
    [MemberData(nameof(Servers))]
    public void Mkfs_vfat_and_mtools(string server)
    {
        string file = Folder.FileAt("file");
        File.WriteAllBytes(file, Data.Random(3_000_000));
        Make(server, disk =>
        {
            Tool.Run("mkfs.vfat", "--invariant", "-i", "1234abcd", disk);
            Tool.Run("env", "SOURCE_DATE_EPOCH=1700000000", "mcopy", "-i", disk, file, "::file");
            Tool.Run("mcopy", "-n", "-i", disk, "::file", Folder.FileAt("back"));
            Tool.Run("cmp", file, Folder.FileAt("back"));
            Tool.Run("fsck.vfat", "-n", disk);
        });
    }

    private void Make(string server, Action<string> work, long sizeBytes = 64 << 20, bool isSame = true)
    {
        DiskPair disks = Disks(server, sizeBytes);
        if (isSame)
        {
            disks.Both(work);
        }
        else
        {
            // It puts random numbers into the file system: what was written through the mount is the truth.
            work(disks.Disk);
            Tool.Run("cp", "--sparse=always", disks.Disk, disks.Local);
        }

        disks.CheckEqualToTheEnd();
    }
}
