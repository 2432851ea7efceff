namespace IntegrationTests;

public sealed class SmokeTests
{
    [Fact]
    public void Runs_as_root_or_not() => Assert.True(Environment.ProcessId > 0);
}
