namespace IntegrationTests.Vm;

/// <summary>
/// The first file system of a small Linux: busybox, modules of Debian's kernel, programs with the libraries that they
/// need, and a script for busybox that runs as process 1.
/// </summary>
internal sealed class Initramfs
{
    // The modules are loaded in this order.
    private const string Start =
        """
        #!/bin/busybox sh
        /bin/busybox mount -t devtmpfs dev /dev
        exec >/dev/ttyS0 2>&1
        for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module; done

        """;

    private static readonly string s_release =
        Directory.GetFiles("/boot", "vmlinuz-*-cloud-amd64").Order(StringComparer.Ordinal).Last()["/boot/vmlinuz-".Length..];

    private readonly string _root;
    private readonly List<string> _modules = [];

    public Initramfs(TestDirectory folder)
    {
        _root = folder.Folder("initramfs");
        foreach (string name in new[] { "bin", "dev", "mnt", "modules", "proc", "sys", "tmp" })
        {
            Directory.CreateDirectory(Path.Combine(_root, name));
        }

        File.Copy("/bin/busybox", Path.Combine(_root, "bin/busybox"));
        File.CreateSymbolicLink(Path.Combine(_root, "bin/sh"), "busybox");
    }

    public static string Kernel { get; } = $"/boot/vmlinuz-{s_release}";

    private static string Modules => $"/lib/modules/{s_release}";

    /// <summary>A module, behind those that it needs.</summary>
    public void AddModule(string name)
    {
        // modules.dep has what a module needs behind its colon, last needed first.
        IEnumerable<string> inOrder = File.ReadLines(Path.Combine(Modules, "modules.dep"))
            .Single(line => line.Split(':')[0].EndsWith($"/{name}.ko", StringComparison.Ordinal))
            .Split([' ', ':'], StringSplitOptions.RemoveEmptyEntries)
            .Reverse();
        foreach (string module in inOrder.Where(module => !_modules.Contains(Path.GetFileName(module))))
        {
            File.Copy(Path.Combine(Modules, module), Path.Combine(_root, "modules", Path.GetFileName(module)));
            _modules.Add(Path.GetFileName(module));
        }
    }

    /// <summary>A program, at /bin, with its libraries where it looks for them.</summary>
    public void AddProgram(string path)
    {
        File.Copy(path, Path.Combine(_root, "bin", Path.GetFileName(path)));
        IEnumerable<string> libraries = Tool.Run("ldd", path)
            .Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)
            .Where(word => word.StartsWith('/'));
        foreach (string library in libraries)
        {
            string copy = _root + library;
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(library, copy, overwrite: true);
        }
    }

    /// <summary>Writes the archive.</summary>
    /// <param name="archive">Its path.</param>
    /// <param name="script">What process 1 does once the modules are loaded; it writes to the first serial port.</param>
    public void Write(string archive, string script)
    {
        File.WriteAllLines(Path.Combine(_root, "modules/order"), _modules);
        string init = Path.Combine(_root, "init");
        File.WriteAllText(init, Start + script);
        File.SetUnixFileMode(init, (UnixFileMode)0x1ed);
        Tool.Run("sh", "-ec", $"cd {_root} && find . | cpio -o -H newc --quiet | gzip -1 > {archive}");
    }
}
