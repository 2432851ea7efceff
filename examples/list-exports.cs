#!/usr/bin/env -S dotnet run
#:project ../src/NbdClient/NbdClient.csproj

// What a server offers:
//     dotnet run list-exports.cs -- nbd://localhost
using Nbd;

foreach (NbdListedExport listed in await NbdClient.ListExportsAsync(args[0], withDetails: true))
{
    // A server's texts may hold anything: the name is shown as URIs show it.
    Console.WriteLine($"'{Uri.EscapeDataString(listed.Name)}' {listed.Description}");
    Console.WriteLine(listed.Export is { } export
        ? $"    {export.SizeBytes} bytes{(export.IsReadOnly ? ", read-only" : "")}, "
          + $"blocks of {export.MinimumBlockBytes}, {export.MetaContexts.Count} meta contexts"
        : $"    {listed.Refusal?.Message}");
}
