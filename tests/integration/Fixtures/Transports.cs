namespace IntegrationTests.Fixtures;

/// <summary>
/// How the kernel's requests come to nbdfuse. The fault tests are written once and run over both: a class for each.
/// </summary>
internal static class Transports
{
    public const string Device = "device";

    /// <summary>FUSE over io_uring.</summary>
    public const string Uring = "uring";

    private const string Switch = "/sys/module/fuse/parameters/enable_uring";

    /// <summary>Whether new mounts may use FUSE over io_uring; scripts/test.sh switches it on where it may.</summary>
    public static bool IsUringEnabled => File.Exists(Switch) && File.ReadAllText(Switch).StartsWith('Y');

    /// <summary>
    /// The option that asks for it. With <see cref="Uring"/> nbdfuse ends unless it gets it; the test is skipped when the
    /// kernel does not let it.
    /// </summary>
    public static string[] Options(string transport)
    {
        Assert.SkipUnless(
            transport != Uring || IsUringEnabled,
            $"no FUSE over io_uring here (Linux 6.14, and as root: echo Y >{Switch})");
        return [$"--transport={transport}"];
    }
}
