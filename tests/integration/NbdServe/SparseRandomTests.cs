using System.Globalization;
using System.Text.RegularExpressions;

namespace IntegrationTests.NbdServeTests;

/// <summary>The disk that checks copying tools.</summary>
public sealed class SparseRandomTests : IntegrationTest
{
    [Fact]
    public void A_terabyte_is_copied_onto_itself()
    {
        (int exitCode, string output) = RunNbdServe(
            "sparse-random", "1T", "--percent", "0.5", "--run", "nbdcopy \"$uri\" \"$uri\"");

        Assert.True(exitCode == 0, output);
    }

    [Fact]
    public void A_copy_of_a_terabyte_takes_little_memory()
    {
        NbdServer server = NbdServe("sparse-random", "1T", "--percent", "0.2");

        Tool.Run("nbdcopy", server.Uri, server.Uri);

        Match peak = Regex.Match(File.ReadAllText($"/proc/{server.Process.Id}/status"), @"VmHWM:\s+(\d+) kB");
        Assert.InRange(int.Parse(peak.Groups[1].Value, CultureInfo.InvariantCulture), 1, 64 << 10);
    }

    [Fact]
    public void Random_content_is_copied_onto_itself()
    {
        (int exitCode, string output) = RunNbdServe(
            "sparse-random", "1G", "--random-content", "--run", "nbdcopy \"$uri\" \"$uri\"");

        Assert.True(exitCode == 0, output);
    }

    [Fact]
    public void One_wrong_byte_is_an_error()
    {
        string image = Folder.FileAt("image");
        Assert.Equal(0, RunNbdServe("sparse-random", "100M", "--run", $"nbdcopy \"$uri\" {image}").ExitCode);
        byte[] data = File.ReadAllBytes(image);
        string copyIn = $"nbdcopy {image} \"$uri\"";
        Assert.Equal(0, RunNbdServe("sparse-random", "100M", "--run", copyIn).ExitCode);

        data[Array.FindIndex(data, b => b != 0) + 5000] ^= 1;
        File.WriteAllBytes(image, data);
        (int exitCode, string output) = RunNbdServe("sparse-random", "100M", "--run", copyIn);

        Assert.NotEqual(0, exitCode);
        Assert.Contains("Input/output error", output);
    }

    [Fact]
    public void Every_run_has_the_same_bytes_and_another_seed_has_others()
    {
        string[] images = [Folder.FileAt("a"), Folder.FileAt("b"), Folder.FileAt("c")];
        string[] seeds = ["5", "5", "6"];
        foreach ((string image, string seed) in images.Zip(seeds))
        {
            Assert.Equal(0, RunNbdServe(
                "sparse-random", "20M", "--seed", seed, "--random-content", "--run", $"nbdcopy \"$uri\" {image}").ExitCode);
        }

        Assert.Equal(File.ReadAllBytes(images[0]), File.ReadAllBytes(images[1]));
        Assert.NotEqual(File.ReadAllBytes(images[0]), File.ReadAllBytes(images[2]));
    }

    [Fact]
    public void The_largest_disk_is_read_at_its_end()
    {
        NbdServer server = NbdServe("sparse-random", $"{long.MaxValue}");

        Tool.Python(server.Uri, "assert len(h.pread(1 << 20, h.get_size() - (1 << 20))) == 1 << 20");
    }
}
