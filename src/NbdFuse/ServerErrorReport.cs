using Linux;
using Nbd;

namespace NbdFuse;

/// <summary>
/// Tells what a server says about commands that it failed. A disk that fails may fail each of them: in any minute each text
/// is told once, and at most ten are. Thread-safe.
/// </summary>
/// <param name="server">Names the server, or the export.</param>
/// <param name="warn">Told of errors that programs get.</param>
/// <param name="tell">Told of errors that we get, and mostly know to avoid.</param>
/// <param name="clock">The time.</param>
internal sealed class ServerErrorReport(string server, Action<string> warn, Action<string> tell, TimeProvider clock)
{
    private const int MostTexts = 10;

    private static readonly TimeSpan s_period = TimeSpan.FromMinutes(1);

    // Guards the fields that follow.
    private readonly Lock _gate = new();
    private readonly HashSet<string> _told = [];
    private long _begin;
    private long _untold;

    internal void Tell(NbdServerError error)
    {
        string untold;
        lock (_gate)
        {
            if (_told.Count > 0 && clock.GetElapsedTime(_begin) >= s_period)
            {
                _told.Clear();
            }

            if (_told.Count == MostTexts || !_told.Add(error.Text))
            {
                _untold++;
                return;
            }

            _begin = _told.Count == 1 ? clock.GetTimestamp() : _begin;
            untold = _untold == 0 ? "" : $"; {_untold} more errors since the last one that was told";
            _untold = 0;
        }

        // What a server cannot do, or not in one command, is done in another way where there is one.
        bool isLimit = error.Errno is Errno.EOPNOTSUPP or Errno.EINVAL or Errno.EOVERFLOW;
        (isLimit ? tell : warn)($"{server}: {error}{untold}");
    }
}
