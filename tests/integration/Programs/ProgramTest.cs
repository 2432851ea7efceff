namespace IntegrationTests.Programs;

/// <summary>Base of the tests that run what people run on disk images.</summary>
public abstract class ProgramTest : IntegrationTest
{
    /// <summary>What the disk is behind: all that differ in how they keep holes and zeroes.</summary>
    public static TheoryData<string> Servers => ["qcow2", "nbdkit memory", "nbdkit file", "nbdserve file"];

    private protected static string Path(params string[] parts) => System.IO.Path.Combine(parts);

    /// <summary>Two equal disks; empty ones unless content is given.</summary>
    private protected DiskPair Disks(string kind, long sizeBytes, byte[]? content = null)
    {
        string local = Folder.FileAt("local.raw");
        File.WriteAllBytes(local, content ?? []);
        Tool.Run("truncate", "-s", $"{sizeBytes}", local);
        string image = Folder.FileAt("image");
        switch (kind)
        {
            case "qcow2":
                Tool.Run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", local, image);
                return new(
                    Mount(Request("--socket-activation", "qemu-nbd", "-f", "qcow2", "--discard=unmap", image)),
                    local,
                    expected =>
                    {
                        Tool.Run("qemu-img", "check", image);
                        Tool.Run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", expected, image);
                    });
            case "nbdkit memory":
                NbdServer memory = Nbdkit("memory", $"{sizeBytes}");
                Tool.Run("nbdcopy", local, memory.Uri);
                return new(
                    Mount(Request(memory.Uri)),
                    local,
                    expected => CheckCopy(memory.Uri, expected));
            default:
                Tool.Run("cp", "--sparse=always", local, image);
                NbdServer file = kind == "nbdkit file" ? Nbdkit("file", image) : NbdServe("file", image);
                return new(Mount(Request(file.Uri)), local, expected => Tool.Run("cmp", expected, image));
        }
    }

    /// <summary>Data, zeroes and holes in turns.</summary>
    private protected static byte[] Patchwork(int sizeBytes, int seed = 1)
    {
        byte[] content = Data.Random(sizeBytes, seed);
        for (int place = 1 << 20; place < sizeBytes; place += 3 << 20)
        {
            content.AsSpan(place, Math.Min(1_500_000, sizeBytes - place)).Clear();
        }

        return content;
    }

    private void CheckCopy(string uri, string expected)
    {
        string copy = Folder.FileAt("copy of the server");
        Tool.Run("nbdcopy", uri, copy);
        Tool.Run("cmp", expected, copy);
    }

    private static MountRequest Request(params string[] source) =>
        new() { Source = source, Limit = TimeSpan.FromMinutes(5) };
}
