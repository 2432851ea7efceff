namespace IntegrationTests.Vm;

/// <summary>
/// QEMU with a serial port. Without KVM: many machines that run tests are virtual themselves, and their
/// KVM stops at the real mode code of boot loaders.
/// </summary>
internal static class VirtualMachine
{
    private static readonly string[] s_machine =
    [
        "-machine", "accel=tcg", "-m", "512", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
    ];

    /// <summary>Runs it until it powers off; returns what it wrote to the serial port.</summary>
    public static string Run(string drive) => Tool.Run(TimeSpan.FromMinutes(4), "qemu-system-x86_64", Arguments(drive));

    /// <summary>Runs a machine without disks until it powers off; returns what it wrote to the serial port.</summary>
    public static string RunKernel(string kernel, string initramfs, int processors) => Tool.Run(
        TimeSpan.FromMinutes(8),
        "qemu-system-x86_64",
        [
            .. s_machine, "-smp", $"{processors}", "-cpu", "max", "-kernel", kernel, "-initrd", initramfs, "-append",
            "console=ttyS0 quiet panic=-1",
        ]);

    public static string[] Arguments(string drive) => [.. s_machine, "-drive", drive];
}
