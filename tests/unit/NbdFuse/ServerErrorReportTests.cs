using global::Nbd;
using global::Nbd.Protocol;
using Linux;
using NbdFuse;

namespace UnitTests.NbdFuseTests;

/// <summary>A disk that fails does not flood the log.</summary>
public sealed class ServerErrorReportTests
{
    private static readonly TimeSpan s_minute = TimeSpan.FromMinutes(1);

    private readonly FakeTime _time = new();
    private readonly List<string> _warned = [];
    private readonly List<string> _told = [];
    private readonly ServerErrorReport _report;

    public ServerErrorReportTests()
    {
        _report = new("unix:/s", _warned.Add, _told.Add, _time);
    }

    [Fact]
    public void A_line_names_the_command_the_error_and_what_the_server_said()
    {
        _report.Tell(Error("disk on fire"));

        Assert.Equal(
            ["unix:/s: WRITE of 512 bytes at offset 4096: Input/output error; server said: disk on fire"], _warned);
        Assert.Empty(_told);
    }

    [Fact]
    public void A_text_is_told_once_a_minute()
    {
        _report.Tell(Error("a"));
        _report.Tell(Error("a"));
        _report.Tell(Error("b"));
        _time.Advance(s_minute - TimeSpan.FromTicks(1));
        _report.Tell(Error("a"));
        Assert.Equal([false, true], _warned.Select(line => line.EndsWith("server said: b; 1 more errors since the last one that was told", StringComparison.Ordinal)));

        _time.Advance(TimeSpan.FromTicks(1));
        _report.Tell(Error("a"));
        Assert.Equal(3, _warned.Count);
        Assert.EndsWith("server said: a; 1 more errors since the last one that was told", _warned[2]);
    }

    [Fact]
    public void A_server_that_always_says_something_else_is_heard_ten_times_a_minute()
    {
        for (int minute = 1; minute <= 3; minute++)
        {
            for (int i = 0; i < 1000; i++)
            {
                _report.Tell(Error($"{i}"));
            }

            Assert.Equal(10 * minute, _warned.Count);
            _time.Advance(s_minute);
        }

        Assert.EndsWith("server said: 0; 990 more errors since the last one that was told", _warned[10]);
    }

    [Fact]
    public void What_a_server_cannot_do_is_told_to_those_who_want_to_know()
    {
        _report.Tell(Error("cannot zero") with { Errno = Errno.EOPNOTSUPP });

        Assert.Empty(_warned);
        Assert.EndsWith("server said: cannot zero", Assert.Single(_told));
    }

    private static NbdServerError Error(string text) => new(NbdCommandType.Write, 4096, 512, Errno.EIO, text, null);
}
