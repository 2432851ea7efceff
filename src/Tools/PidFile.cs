using System.Globalization;

namespace Tools;

/// <summary>
/// The file that tells scripts that the program is ready. It appears whole or not at all, and goes with us.
/// </summary>
internal sealed class PidFile : IDisposable
{
    private readonly string _path;
    private readonly string _draft;
    private bool _isPublished;

    private PidFile(string path, string draft)
    {
        (_path, _draft) = (path, draft);
    }

    /// <summary>Finds out, before anything else happens, whether the file can be written.</summary>
    /// <exception cref="UsageException">It cannot.</exception>
    internal static PidFile Prepare(string path)
    {
        string absolute = Path.GetFullPath(path);
        string draft = $"{absolute}.{Environment.ProcessId}";
        try
        {
            if (Directory.Exists(absolute))
            {
                throw new IOException("it is a directory");
            }

            File.WriteAllText(draft, Environment.ProcessId.ToString(CultureInfo.InvariantCulture) + "\n");
            return new PidFile(absolute, draft);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"cannot write the pidfile {path}: {exception.Message}");
        }
    }

    /// <summary>The program is ready now.</summary>
    internal void Publish()
    {
        File.Move(_draft, _path, overwrite: true);
        _isPublished = true;
    }

    /// <summary>Removes the file, unless it is gone or became somebody else's to remove: that is no failure at the end.</summary>
    public void Dispose()
    {
        try
        {
            File.Delete(_isPublished ? _path : _draft);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // Its folder went first, or cannot be changed any more.
        }
    }
}
