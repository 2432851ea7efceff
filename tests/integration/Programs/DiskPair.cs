namespace IntegrationTests.Programs;

/// <summary>
/// A disk of a server as a file, and a local raw file of the same size and content: what is done to both must end in
/// the same bytes.
/// </summary>
internal sealed class DiskPair(NbdFuseMount mount, string local, Action<string> checkImage)
{
    /// <summary>The mount's file.</summary>
    public string Disk => mount.File;

    /// <summary>The local raw file.</summary>
    public string Local => local;

    /// <summary>Does the same to both.</summary>
    public void Both(Action<string> work)
    {
        work(Local);
        work(Disk);
    }

    /// <summary>Byte by byte through the mount, and, once that is gone, at the server without us.</summary>
    public void CheckEqualToTheEnd()
    {
        Tool.Run("cmp", Local, Disk);
        mount.Unmount();
        checkImage(Local);
    }
}
