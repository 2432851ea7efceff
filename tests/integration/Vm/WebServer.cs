namespace IntegrationTests.Vm;

/// <summary>A web server on localhost that serves ranges of the files in a folder.</summary>
internal sealed class WebServer : IDisposable
{
    // python3 -m http.server has no ranges; the curl plugin of nbdkit needs them.
    private const string Program =
        """
        import http.server, os, sys
        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def do_HEAD(self):
                self.serve(False)
            def do_GET(self):
                self.serve(True)
            def serve(self, with_body):
                path = self.translate_path(self.path)
                size = os.path.getsize(path)
                first, last, status = 0, size - 1, 200
                wanted = self.headers.get("Range")
                if wanted:
                    first, last = (int(n) for n in wanted.split("=")[1].split("-"))
                    last, status = min(last, size - 1), 206
                self.send_response(status)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(last - first + 1))
                if wanted:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
                self.end_headers()
                if with_body:
                    with open(path, "rb") as file:
                        file.seek(first)
                        self.wfile.write(file.read(last - first + 1))
            def log_message(self, *arguments):
                pass
        server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), lambda *a: Handler(*a, directory=sys.argv[2]))
        open(sys.argv[3], "w").close()
        server.serve_forever()
        """;

    private readonly BackgroundProcess _process;

    public WebServer(Func<string, string[], BackgroundProcess> start, string folder)
    {
        int port = NbdServer.FreePort();
        string ready = folder + ".ready";
        _process = start("/usr/bin/python3", ["-c", Program, $"{port}", folder, ready]);
        Wait.Until(() => File.Exists(ready) || _process.HasExited, $"the web server is ready: {_process}");
        Address = $"http://127.0.0.1:{port}";
    }

    public string Address { get; }

    public void Dispose() => _process.Dispose();
}
