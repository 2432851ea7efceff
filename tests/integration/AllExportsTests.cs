using Tmds.Linux;

namespace IntegrationTests;

/// <summary>--all: every export of a server is a file.</summary>
public sealed class AllExportsTests : IntegrationTest
{
    [Fact]
    public void Every_export_is_a_file_and_slashes_make_folders()
    {
        NbdServer server = NbdServe(
            "--export", "first=pattern 64K", "--export", "vm/one/disk=memory 1M", "--export", "vm/two=memory 2M",
            "--export", "..=memory 4K");
        NbdFuseMount mount = MountAll(server.Uri);

        Assert.Equal(["%2E%2E", "first", "vm/one/disk", "vm/two"], Files(mount));
        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(At(mount, "first")));
        Assert.Equal(2 << 20, new FileInfo(At(mount, "vm/two")).Length);
        byte[] data = Data.Random(1 << 20);
        using (RawFile disk = RawFile.Open(At(mount, "vm/one/disk"), LibC.O_RDWR))
        {
            Assert.Equal(data.Length, disk.Write(0, data));
            Assert.Equal(0, disk.Fsync());
        }

        Tool.Run("nbdcopy", server.UriOf("vm%2fone%2fdisk"), Folder.FileAt("copy"));
        Assert.Equal(data, File.ReadAllBytes(Folder.FileAt("copy")));
    }

    [Fact]
    public void Each_file_has_its_own_holes()
    {
        NbdServer server = NbdServe("--export", "one=memory 1G", "--export", "folder/two=memory 8M");
        Tool.Python(server.UriOf("one"), "h.pwrite(b'x' * 65536, 131072)");
        NbdFuseMount mount = MountAll(server.Uri);
        using RawFile one = RawFile.Open(At(mount, "one"), LibC.O_RDWR);
        using RawFile two = RawFile.Open(At(mount, "folder/two"), LibC.O_RDWR);

        Assert.Equal([(131_072, 131_072 + 65536)], HoleMap.Walk(one));
        Assert.Empty(HoleMap.Walk(two));
        Assert.Equal(4096, two.Write(4096, Data.Random(4096)));
        Assert.Equal([(4096, 8192)], HoleMap.Walk(two));
        Wait.Until(() => HoleMap.AllocatedBytes(At(mount, "one")) == 65536, "st_blocks is that of the one file");
    }

    [Fact]
    public void Exports_come_and_go_and_an_open_one_stays()
    {
        string list = Folder.FileAt("list");
        File.WriteAllText(list, "old\nsame\n");
        NbdServer server = ScriptedServer(list);
        NbdFuseMount mount = MountAll(server.Uri);
        Assert.Equal(["old", "same"], Files(mount));
        using RawFile open = RawFile.Open(At(mount, "old"), LibC.O_RDONLY | LibC.O_DIRECT);

        File.WriteAllText(list, "new\nsame\n");

        Wait.Until(() => Files(mount).SequenceEqual(["new", "same"]), "the folder shows the new list");
        Wait.Until(() => RawFile.OpenError(At(mount, "old"), LibC.O_RDONLY) == -LibC.ENOENT, "the old name is gone");
        Assert.Equal(new byte[4096], open.Read(0, 4096));
        Assert.Equal(0, RawFile.OpenError(At(mount, "new"), LibC.O_RDONLY));
    }

    [Fact]
    public void An_export_that_cannot_be_opened_does_not_hurt_the_others()
    {
        string list = Folder.FileAt("list");
        File.WriteAllText(list, "bad\ngood\n");
        NbdServer server = ScriptedServer(list);
        NbdFuseMount mount = MountAll(server.Uri);

        Assert.Equal(["bad", "good"], Files(mount));
        Assert.True(RawFile.OpenError(At(mount, "bad"), LibC.O_RDONLY) < 0);
        Assert.Equal(new byte[1 << 20], File.ReadAllBytes(At(mount, "good")));
        Assert.Contains("/bad", mount.Log, StringComparison.Ordinal);
    }

    [Fact]
    public void A_connection_is_there_only_while_the_file_is_open()
    {
        string list = Folder.FileAt("list");
        File.WriteAllText(list, "disk\n");
        string connections = Folder.FileAt("connections");
        NbdServer server = ScriptedServer(list, $"open=[ \"$3\" = bad ] && exit 1; echo + >> {connections}; echo \"$3\"",
            $"close=echo - >> {connections}");
        NbdFuseMount mount = MountAll("-C", "1", server.Uri);
        Wait.Until(() => Balance(connections) == 0, "nobody is connected but for the list");

        using (RawFile.Open(At(mount, "disk"), LibC.O_RDONLY))
        using (RawFile.Open(At(mount, "disk"), LibC.O_RDONLY))
        {
            Wait.Until(() => Balance(connections) == 1, "one connection serves both");
        }

        Wait.Until(() => Balance(connections) == 0, "it is closed");
        Assert.Equal(0, RawFile.OpenError(At(mount, "disk"), LibC.O_RDONLY));
    }

    [Fact]
    public void Attributes_are_kept_and_read_only_exports_are_so()
    {
        NbdServer server = NbdServe("--export", "disk=memory 1M", "-r");
        NbdFuseMount mount = MountAll(server.Uri);

        Assert.Equal(-LibC.EROFS, RawFile.OpenError(At(mount, "disk"), LibC.O_RDWR));
        Tool.Run("touch", "-d", "2001-02-03 04:05:06 UTC", At(mount, "disk"));
        Assert.Equal("981173106\n", Tool.Run("stat", "-c", "%Y", At(mount, "disk")));
        Assert.Equal("440\n", Tool.Run("sh", "-c", "chmod 0440 \"$1\" && stat -c %a \"$1\"", "sh", At(mount, "disk")));
    }

    [Fact]
    public void A_server_of_our_own_serves_all_its_exports_and_ends_with_us()
    {
        NbdFuseMount mount = MountAll(
            "--socket-activation", Repository.NbdServe, "--export", "a=memory 1M", "--export", "b=pattern 64K");

        Assert.Equal(["a", "b"], Files(mount));
        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(At(mount, "b")));
        using (RawFile disk = RawFile.Open(At(mount, "a"), LibC.O_RDWR))
        {
            Assert.Equal(4, disk.Write(7, [1, 2, 3, 4]));
        }

        Assert.Equal([1, 2, 3, 4], File.ReadAllBytes(At(mount, "a"))[7..11]);
        mount.Stop(LibC.SIGTERM);
    }

    [Fact]
    public void The_end_of_the_server_is_told_and_survived()
    {
        NbdServer server = NbdServe("--export", "disk=memory 1M");
        NbdFuseMount mount = MountAll(server.Uri);
        using RawFile open = RawFile.Open(At(mount, "disk"), LibC.O_RDONLY | LibC.O_DIRECT);
        server.Process.Signal(LibC.SIGKILL);
        server.Process.WaitForExit();

        Wait.Until(() => Files(mount).Length == 1 && mount.Log.Contains("list the exports", StringComparison.Ordinal), "the list fails");
        Assert.Throws<Linux.LinuxException>(() => open.Read(0, 4096));
    }

    [Fact]
    public void SIGTERM_pushes_what_was_changed_in_exports_that_are_open()
    {
        NbdServer server = NbdServe("--export", "a/b=memory 1M", "--export", "c=memory 1M");
        NbdFuseMount mount = MountAll(server.Uri);
        _ = ChangeAndStay(At(mount, "a/b"));

        mount.Stop(LibC.SIGTERM);

        Tool.Run("nbdcopy", server.UriOf("a%2fb"), Folder.FileAt("copy"));
        Assert.Equal(Data.Filled(4096, 0x5a), File.ReadAllBytes(Folder.FileAt("copy"))[8192..12288]);
    }

    [Theory]
    [InlineData("a directory", "--all", "FILE", "URI")]
    [InlineData("leave out the name", "--all", "FOLDER", "nbd://localhost/name")]
    [InlineData("more than once", "--all", "FOLDER", "--command", "nbdkit", "-s", "null")]
    [InlineData("--partitions is for", "--all", "--partitions", "FOLDER", "URI")]
    public void What_makes_no_sense_is_refused(string message, params string[] arguments)
    {
        Folder.Folder("folder");
        File.WriteAllText(Folder.FileAt("file"), "");

        (int exitCode, string output) = RunNbdFuse([.. arguments.Select(argument => argument switch
        {
            "FILE" => Folder.FileAt("file"),
            "FOLDER" => Folder.FileAt("folder"),
            "URI" => "nbd+unix:///?socket=" + Folder.FileAt("no-socket"),
            _ => argument,
        })]);

        Assert.Equal(1, exitCode);
        Assert.Contains(message, output, StringComparison.Ordinal);
    }

    private static string At(NbdFuseMount mount, string name) => Path.Combine(mount.MountPath, name);

    private static string[] Files(NbdFuseMount mount) =>
    [
        .. Directory.GetFiles(mount.MountPath, "*", SearchOption.AllDirectories)
            .Select(path => Path.GetRelativePath(mount.MountPath, path)).Order(StringComparer.Ordinal),
    ];

    private static int Balance(string connections)
    {
        string text = File.Exists(connections) ? File.ReadAllText(connections) : "";
        return text.Count(character => character == '+') - text.Count(character => character == '-');
    }

    private NbdFuseMount MountAll(params string[] source)
    {
        // Options go before the mountpoint.
        string[] options = source[0] == "-C" ? source[..2] : [];
        Folder.Folder("exports");
        return Mount(new MountRequest
        {
            Options = ["--all", .. options],
            MountPoint = "exports",
            Source = source[options.Length..],
        });
    }

    // A server whose list is a file, and whose export "bad" cannot be opened.
    private NbdServer ScriptedServer(string list, params string[] more) => Nbdkit(
    [
        "eval",
        $"list_exports=echo NAMES; cat {list}",
        "get_size=echo 1048576",
        "pread=head -c $3 /dev/zero",
        .. more.Length > 0 ? more : ["open=[ \"$3\" = bad ] && { echo EIO broken >&2; exit 1; }; echo \"$3\""],
    ]);
}
