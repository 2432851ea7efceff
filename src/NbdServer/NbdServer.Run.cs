using System.Globalization;
using System.Net;
using System.Runtime.InteropServices;
using Linux;

namespace Nbd;

// A whole program in one call.
public sealed partial class NbdServer
{
    private const int DefaultPort = 10809;

    /// <summary>
    /// A whole program: serves as <paramref name="args"/> say until SIGTERM, SIGINT, or the client of <c>-s</c>
    /// left. <c>--unix PATH</c>, <c>--tcp [ADDRESS:]PORT</c>, <c>-s</c> for one client on standard input and output;
    /// without any, the sockets of socket activation, else TCP port 10809 of the loopback address.
    /// </summary>
    /// <param name="args">The program's arguments.</param>
    /// <param name="openExport">Opens what an export name stands for; null when there is no such export.</param>
    /// <returns>Exit status: 0, or 1 after one line on standard error.</returns>
    public static async Task<int> RunAsync(string[] args, Func<string, NbdBackend?> openExport)
    {
        ArgumentNullException.ThrowIfNull(args);
        ArgumentNullException.ThrowIfNull(openExport);
        try
        {
            await using NbdServer server = new(new NbdServerOptions
            {
                OpenExport = (name, _) => ValueTask.FromResult(openExport(name)),
                Log = Console.Error.WriteLine,
            });
            TaskCompletionSource signalled = new(TaskCreationOptions.RunContinuationsAsynchronously);
            void OnSignal(PosixSignalContext context)
            {
                context.Cancel = true;
                signalled.TrySetResult();
            }

            using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal);
            using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal);
            Task end = signalled.Task;
            switch (args)
            {
                case ["-s"]:
                    const int Output = 1;
                    end = Task.WhenAny(end, server.ServeAsync(new SafeFd(0), new SafeFd(Output)));
                    break;
                case ["--unix", string path]:
                    server.ListenUnix(path);
                    break;
                case ["--tcp", string address]:
                    (IPAddress local, int port) = ParseTcp(address);
                    server.ListenTcp(local, port);
                    break;
                case []:
                    if (!server.ListenActivated())
                    {
                        server.ListenTcp(IPAddress.Loopback, DefaultPort);
                    }

                    break;
                default:
                    throw new ArgumentException("usage: [--unix PATH | --tcp [ADDRESS:]PORT | -s]");
            }

            server.Start();
            await end.ConfigureAwait(false);
            return 0;
        }
        catch (Exception exception) when (exception is IOException or ArgumentException)
        {
            await Console.Error.WriteLineAsync(exception.Message).ConfigureAwait(false);
            return 1;
        }
    }

    private static (IPAddress Address, int Port) ParseTcp(string text)
    {
        int colon = text.LastIndexOf(':');
        IPAddress? address = IPAddress.Loopback;
        return (colon < 0 || IPAddress.TryParse(text[..colon], out address))
            && ushort.TryParse(text[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out ushort port)
            ? (address, port)
            : throw new ArgumentException($"'{PlainText.From(text)}' is not [ADDRESS:]PORT");
    }
}
