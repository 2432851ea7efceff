namespace IntegrationTests.Vm;

/// <summary>
/// QEMU with one disk and a serial port. Without KVM: many machines that run tests are virtual themselves, and their
/// KVM stops at the real mode code of boot loaders.
/// </summary>
internal static class VirtualMachine
{
    /// <summary>Runs it until it powers off; returns what it wrote to the serial port.</summary>
    public static string Run(string drive) => Tool.Run(TimeSpan.FromMinutes(4), "qemu-system-x86_64", Arguments(drive));

    public static string[] Arguments(string drive) =>
    [
        "-machine", "accel=tcg", "-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
        "-drive", drive,
    ];
}
