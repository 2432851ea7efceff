using System.IO.Compression;

namespace IntegrationTests;

/// <summary>The NuGet packages that "make pack" builds, as their users get them.</summary>
[Trait("Speed", "Slow")]
public sealed class PackageTests : IntegrationTest
{
    private static string Packages { get; } = Path.Combine(Repository.Root, "out", "packages");

    [Fact]
    public void A_new_program_with_the_package_is_published_as_one_native_file_and_reads_an_export()
    {
        string project = Folder.Folder("reader");
        // Our packages come from their folder alone; the rest is what building this repository has fetched.
        File.WriteAllText(Path.Combine(project, "NuGet.config"), $"""
            <configuration>
              <packageSources><clear /><add key="local" value="{Packages}" /></packageSources>
              <fallbackPackageFolders><clear /><add key="fetched" value="{Fetched()}" /></fallbackPackageFolders>
              <config><add key="globalPackagesFolder" value="{Folder.Folder("restored")}" /></config>
            </configuration>
            """);
        File.WriteAllText(Path.Combine(project, "reader.csproj"), """
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net10.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <PublishAot>true</PublishAot>
                <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="NbdClient" Version="0.1.0" />
              </ItemGroup>
            </Project>
            """);
        File.WriteAllText(Path.Combine(project, "Program.cs"), """
            using Nbd;

            await using NbdClient disk = await NbdClient.ConnectAsync(args[0]);
            byte[] bytes = new byte[4];
            await disk.ReadAsync(8, bytes);
            Console.WriteLine($"{disk.Export.SizeBytes} {Convert.ToHexString(bytes)}");
            """);
        string published = Folder.Folder("published");
        BackgroundProcess publish = Background("dotnet", "publish", project, "-c", "Release", "-o", published);
        Assert.True(publish.WaitForExit(TimeSpan.FromMinutes(8)) == 0, publish.ToString());

        NbdServer server = Nbdkit("pattern", "1M");
        Assert.Equal("1048576 00000000\n", Tool.Run(Path.Combine(published, "reader"), server.Uri).Replace("\r", ""));
    }

    [Theory]
    [InlineData("NbdLinux", "Linux")]
    [InlineData("NbdProtocol", "NbdProtocol")]
    [InlineData("NbdClient", "NbdClient")]
    [InlineData("NbdServer", "NbdServer")]
    public void A_package_holds_library_documentation_readme_and_licence(string package, string library)
    {
        using ZipArchive archive = ZipFile.OpenRead(Path.Combine(Packages, $"{package}.0.1.0.nupkg"));
        string[] files = [.. archive.Entries.Select(entry => entry.FullName)];

        Assert.Contains($"lib/net10.0/{library}.dll", files);
        Assert.Contains($"lib/net10.0/{library}.xml", files);
        Assert.Contains("README.md", files);
        Assert.Contains("LICENSE", files);
        using ZipArchive symbols = ZipFile.OpenRead(Path.Combine(Packages, $"{package}.0.1.0.snupkg"));
        Assert.Contains($"lib/net10.0/{library}.pdb", symbols.Entries.Select(entry => entry.FullName));
    }

    [Fact]
    public void Packing_the_same_sources_again_gives_the_same_bytes()
    {
        Assert.SkipUnless(SetsTimes(), "this SDK cannot set the times of the files in a package");
        string again = Folder.FileAt("again");
        BackgroundProcess pack = Background("make", "-C", Repository.Root, "pack", $"PACKED={again}");
        Assert.True(pack.WaitForExit(TimeSpan.FromMinutes(8)) == 0, pack.ToString());

        string[] names = [.. Directory.GetFiles(Packages).Select(file => Path.GetFileName(file)).Order()];
        Assert.Equal(8, names.Length);
        Assert.Equal(names, Directory.GetFiles(again).Select(file => Path.GetFileName(file)).Order());
        Assert.All(names, name => Assert.True(
            File.ReadAllBytes(Path.Combine(Packages, name)).AsSpan().SequenceEqual(File.ReadAllBytes(Path.Combine(again, name))),
            $"{name} differs"));
    }

    // NuGet learnt it in the course of .NET 10.
    private static bool SetsTimes()
    {
        string program = File.ResolveLinkTarget(Tool.Run("which", "dotnet").Trim(), returnFinalTarget: true)?.FullName
            ?? Tool.Run("which", "dotnet").Trim();
        string sdk = Path.Combine(Path.GetDirectoryName(program)!, "sdk", Tool.Run("dotnet", "--version").Trim());
        return File.ReadAllText(Path.Combine(sdk, "NuGet.Build.Tasks.Pack.targets")).Contains("DeterministicTimestamp", StringComparison.Ordinal);
    }

    private static string Fetched() =>
        Environment.GetEnvironmentVariable("NUGET_PACKAGES")
        ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages");
}
