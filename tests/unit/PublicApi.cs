using System.Reflection;
using System.Text;

namespace UnitTests;

/// <summary>
/// The public face of an assembly as text: one line for each type and member that its users can see, sorted.
/// </summary>
internal static class PublicApi
{
    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance
        | BindingFlags.Static | BindingFlags.DeclaredOnly;

    private static readonly Dictionary<Type, string> s_keywords = new()
    {
        [typeof(void)] = "void",
        [typeof(bool)] = "bool",
        [typeof(byte)] = "byte",
        [typeof(ushort)] = "ushort",
        [typeof(int)] = "int",
        [typeof(uint)] = "uint",
        [typeof(long)] = "long",
        [typeof(ulong)] = "ulong",
        [typeof(nint)] = "nint",
        [typeof(string)] = "string",
        [typeof(object)] = "object",
    };

    internal static string Describe(Assembly assembly)
    {
        StringBuilder text = new();
        foreach (Type type in assembly.GetExportedTypes().OrderBy(type => type.FullName, StringComparer.Ordinal))
        {
            text.Append(Header(type)).Append('\n');
            foreach (string member in Members(type).Order(StringComparer.Ordinal))
            {
                text.Append("    ").Append(member).Append('\n');
            }
        }

        return text.ToString();
    }

    private static string Header(Type type)
    {
        string kind = type.IsEnum ? $"enum {Name(type)} : {Name(Enum.GetUnderlyingType(type))}"
            : type.IsValueType ? $"struct {Name(type)}"
            : type.IsInterface ? $"interface {Name(type)}"
            : type is { IsAbstract: true, IsSealed: true } ? $"static class {Name(type)}"
            : $"{(type.IsAbstract ? "abstract " : type.IsSealed ? "sealed " : "")}class {Name(type)}";
        IEnumerable<Type> bases = type.IsEnum ? [] : type.GetInterfaces().OrderBy(Name, StringComparer.Ordinal);
        if (type.BaseType is { } parent && parent != typeof(object) && parent != typeof(ValueType) && !type.IsEnum)
        {
            bases = bases.Prepend(parent);
        }

        string list = string.Join(", ", bases.Select(Name));
        return list.Length == 0 ? kind : $"{kind} : {list}";
    }

    private static IEnumerable<string> Members(Type type)
    {
        if (type.IsEnum)
        {
            return type.GetFields(BindingFlags.Public | BindingFlags.Static)
                .Select(field => $"{field.Name} = {field.GetRawConstantValue()}");
        }

        // What the compiler writes for properties and events is told by them.
        return type.GetFields(Declared).Where(f => IsVisible(f.Attributes)).Select(Field)
            .Concat(type.GetProperties(Declared).Where(p => p.GetAccessors(true).Any(IsVisible)).Select(Property))
            .Concat(type.GetConstructors(Declared).Where(IsVisible).Select(c => $"{Access(c)}.ctor({Parameters(c)})"))
            .Concat(type.GetMethods(Declared).Where(m => IsVisible(m) && IsPlain(m)).Select(Method))
            .Concat(type.GetEvents(Declared).Where(e => IsVisible(e.AddMethod!))
                .Select(e => $"event {Name(e.EventHandlerType!)} {e.Name}"));
    }

    // Nor does anybody call what a record's "with" is made of.
    private static bool IsPlain(MethodInfo method) =>
        (!method.IsSpecialName || method.Name.StartsWith("op_", StringComparison.Ordinal)) && method.Name[0] != '<';

    private static bool IsVisible(FieldAttributes attributes) =>
        (attributes & FieldAttributes.FieldAccessMask)
            is FieldAttributes.Public or FieldAttributes.Family or FieldAttributes.FamORAssem;

    private static bool IsVisible(MethodBase method) => method.IsPublic || method.IsFamily || method.IsFamilyOrAssembly;

    private static string Field(FieldInfo field) => field.IsLiteral
        ? $"const {Name(field.FieldType)} {field.Name} = {Value(field.GetRawConstantValue())}"
        : $"{(field.IsStatic ? "static " : "")}{(field.IsInitOnly ? "readonly " : "")}{Name(field.FieldType)} {field.Name}";

    private static string Property(PropertyInfo property)
    {
        MethodInfo accessor = property.GetAccessors(true).First(IsVisible);
        string get = property.GetMethod is { } getter && IsVisible(getter) ? "get; " : "";
        string set = property.SetMethod is not { } setter || !IsVisible(setter) ? ""
            : setter.ReturnParameter.GetRequiredCustomModifiers().Length > 0 ? "init; " : "set; ";
        return $"{Access(accessor)}{Name(property.PropertyType)} {property.Name} {{ {get}{set}}}";
    }

    private static string Method(MethodInfo method)
    {
        string arguments = method.IsGenericMethod
            ? $"<{string.Join(", ", method.GetGenericArguments().Select(Name))}>"
            : "";
        return $"{Access(method)}{Name(method.ReturnType)} {method.Name}{arguments}({Parameters(method)})";
    }

    private static string Access(MethodBase method) =>
        (method.IsPublic ? "" : "protected ")
        + (method.IsStatic ? "static "
            : method.IsAbstract ? "abstract "
            : method is { IsVirtual: true, IsFinal: false } ? IsOverride(method) ? "override " : "virtual "
            : "");

    private static bool IsOverride(MethodBase method) =>
        method is MethodInfo info && info.GetBaseDefinition().DeclaringType != info.DeclaringType;

    private static string Parameters(MethodBase method) => string.Join(", ", method.GetParameters().Select(parameter =>
        $"{Direction(parameter)}{Name(parameter.ParameterType)} {parameter.Name}"
        + (parameter.HasDefaultValue ? $" = {Value(parameter.RawDefaultValue)}" : "")));

    private static string Value(object? value) => value switch
    {
        null => "default",
        string text => $"\"{text}\"",
        _ => $"{value}",
    };

    private static string Direction(ParameterInfo parameter) =>
        !parameter.ParameterType.IsByRef ? "" : parameter.IsOut ? "out " : parameter.IsIn ? "in " : "ref ";

    private static string Name(Type type)
    {
        if (s_keywords.TryGetValue(type, out string? keyword))
        {
            return keyword;
        }

        if (type.IsByRef)
        {
            return Name(type.GetElementType()!);
        }

        if (type.HasElementType)
        {
            return Name(type.GetElementType()!) + (type.IsPointer ? "*" : "[]");
        }

        if (type.IsGenericParameter)
        {
            return type.Name;
        }

        string name = type.FullName is { } full && !type.IsGenericType ? full : $"{type.Namespace}.{type.Name}";
        if (!type.IsGenericType)
        {
            return name;
        }

        string arguments = string.Join(", ", type.GetGenericArguments().Select(Name));
        return $"{name.Split('`')[0]}<{arguments}>";
    }
}
