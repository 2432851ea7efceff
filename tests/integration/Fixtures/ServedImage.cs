namespace IntegrationTests.Fixtures;

/// <summary>A raw image of 3 MiB for a server to serve, and what must be in it.</summary>
internal sealed class ServedImage
{
    private const int SizeBytes = 3 << 20;
    private const int ChangeStart = 1_000_001;
    private const int ChangeBytes = 1_300_000;

    private readonly byte[] _content = Data.Random(SizeBytes);

    public ServedImage(TestDirectory directory)
    {
        Path = directory.FileAt("image");
        File.WriteAllBytes(Path, _content);
    }

    public string Path { get; }

    /// <summary>Reads all of it through a mount, writes in the middle, unmounts, and looks at the image.</summary>
    public void ReadAndWriteThrough(NbdFuseMount mount, int exitCode = 0)
    {
        Assert.Equal(_content, File.ReadAllBytes(mount.File));
        byte[] change = Data.Random(ChangeBytes, seed: 2);
        using (FileStream file = new(mount.File, FileMode.Open, FileAccess.ReadWrite))
        {
            file.Position = ChangeStart;
            file.Write(change);
        }

        mount.Unmount(exitCode);
        change.CopyTo(_content, ChangeStart);
        Assert.Equal(_content, File.ReadAllBytes(Path));
    }
}
