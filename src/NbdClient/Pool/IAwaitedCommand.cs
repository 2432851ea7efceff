namespace Nbd;

/// <summary>A command that was answered, and whose caller awaits it.</summary>
internal interface IAwaitedCommand
{
    /// <summary>Gives the caller the result and goes on with him, on this thread. Called once.</summary>
    void GoOn();
}
